"""What the gateway says of the objects that were committed: nothing else of the cluster can be seen from here."""

from __future__ import annotations

import numpy as np
import urllib3

from financial_assets.errors import InferenceError
from financial_assets.serving.answers import ROUTE_HEADER, last_route
from financial_assets.serving.client import InferenceClient
from financial_assets.serving.manifests import ExperimentSpec
from financial_assets.serving.mesh import Mesh
from financial_assets.serving.target import Endpoint

__all__ = ["Probes"]

_OK = 200


class Probes:
    """Questions to the gateway; each answer is what is wrong in words, empty if nothing is.

    Parameters
    ----------
    endpoint
        Where the gateway answers.
    timeout_s
        Longest wait for one answer.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float = 2.0) -> None:
        self.mesh = Mesh(endpoint.http_url, timeout_s=timeout_s)
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._pool = urllib3.PoolManager()

    def model(self, name: str) -> str:
        """Whether a Model is ready."""
        return self.mesh.problem(name)

    def split(self, experiment: ExperimentSpec) -> str:
        """Whether an Experiment routes to one of its members; asks no model for an answer."""
        url = f"{self._endpoint.http_url.rstrip('/')}/v2/models/{experiment.name}/ready"
        headers = {"seldon-model": f"{experiment.name}.experiment"}
        try:
            answer = self._pool.request("GET", url, headers=headers, timeout=self._timeout_s, retries=False)
        except urllib3.exceptions.HTTPError as error:
            return f"no answer from the gateway at {url} ({type(error).__name__}: {error})"
        if answer.status != _OK:
            return f"the gateway answers HTTP {answer.status} at {url}"
        arm = last_route(answer.headers.get(ROUTE_HEADER))
        return _stranger(experiment, arm[0] if arm else None)

    def golden(self, experiment: ExperimentSpec) -> str:
        """Whether an Experiment answers a request, and through each of its candidates whose own route can be learnt.

        The last is what tells a new split from the one before: the gateway knows no route of a model that is not in
        the split. The weights in force cannot be seen.
        """
        # Here and not above: it brings torch, which takes seconds, and nothing else of this target needs it.
        from financial_assets.models.predictor import CHANNEL_COUNT, SERVED_LOOKBACK

        bars = np.ones((1, SERVED_LOOKBACK, CHANNEL_COUNT), np.float32)
        try:
            with InferenceClient(self._endpoint, timeout_s=self._timeout_s) as client:
                problem = _stranger(experiment, client.infer(experiment.name, bars).route)
                for member in experiment.weights:
                    if problem or member == experiment.default:
                        continue
                    route = self.mesh.learn(member)
                    if route is None:
                        return f"Model {member}: {self.mesh.problem(member) or 'the gateway does not name its route'}"
                    answered = client.infer(experiment.name, bars, route=f":{route}:").route
                    if answered != member:
                        problem = f"the split in force does not know {member} ({answered} answered for it)"
                return problem
        except InferenceError as error:
            return f"the golden request got no answer: {error}"


def _stranger(experiment: ExperimentSpec, route: str | None) -> str:
    if route in experiment.weights:
        return ""
    return f"it answers through {route or 'an unnamed route'}, not through one of {', '.join(experiment.weights)}"
