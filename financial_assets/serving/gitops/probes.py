"""Whether the gateway serves what was committed: nothing else of the cluster can be seen from here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from scipy.special import chdtrc

from financial_assets.errors import InferenceError
from financial_assets.serving.bar_rules import neutral_bars
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.client.probe import GatewayProbe
from financial_assets.serving.deadline import Deadline
from financial_assets.serving.manifests import ExperimentSpec
from financial_assets.serving.target import Endpoint

_ANSWER_S = 5.0
# With 1,000 draws at level 1 %, weights of 5 % pass for 10 % (or 10 % for 5 %) fewer than 3 times in 10,000, and larger
# differences never. Earlier looks use a level of one in a million: looking ten times must not add to the false alarms.
_DRAWS, _LOOK, _ALPHA, _DRAW_S = 1000, 100, (1e-6, 0.01), 30.0


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
        self.gateway = GatewayProbe(endpoint.http_url, timeout_s=timeout_s)
        self._endpoint = endpoint

    def model(self, name: str) -> str:
        """Whether a Model is ready."""
        return self.gateway.problem(name)

    def split(self, experiment: ExperimentSpec) -> str:
        """Whether an Experiment routes to one of its members; asks no model for an answer."""
        return self._draw(experiment)[0]

    def experiment(self, experiment: ExperimentSpec) -> str:
        """Whether an Experiment answers a request, and is split as its manifest says; may take some seconds."""
        return self._answers(experiment) or (self._shares(experiment) if len(experiment.weights) > 1 else "")

    def _answers(self, experiment: ExperimentSpec) -> str:
        """Whether it answers, and through each of its candidates whose own route can be learnt.

        The candidates distinguish a new split from the one before: a request that asks for the route of a model outside
        the split is answered by another one.
        """
        try:
            bars = neutral_bars(1, *self.gateway.row_shape(next(iter(experiment.weights))))
            with InferenceClient(self._endpoint, timeout_s=_ANSWER_S) as client:
                problem = _stranger(experiment, client.infer(experiment.name, bars).route)
                for member in experiment.weights:
                    if problem or member == experiment.default:
                        continue
                    route = self.gateway.learn(member)
                    if route is None:
                        return (
                            f"Model {member}: {self.gateway.problem(member) or 'the gateway does not name its route'}"
                        )
                    answered = client.infer(experiment.name, bars, route=f":{route}:").route
                    if answered != member:
                        problem = f"the split in force does not know {member} ({answered} answered for it)"
                return problem
        except InferenceError as error:
            return f"the deployment check got no answer: {error}"

    def _shares(self, experiment: ExperimentSpec) -> str:
        """Whether the arms are drawn as often as the weights say (Pearson's chi-square test).

        The current weights cannot be read from a gateway, but each readiness request draws an arm as any other request
        does. Differences too small for the sample pass; a false alarm is corrected by the caller's next attempt.
        """
        total = sum(experiment.weights.values())
        shares = {name: weight / total for name, weight in experiment.weights.items() if weight}
        limit, drawn = Deadline(_DRAW_S), Counter[str]()
        for count in range(1, _DRAWS + 1):
            problem, arm = self._draw(experiment)
            if problem or arm is None:
                return problem
            drawn[arm] += 1
            if arm not in shares or (count % _LOOK == 0 and _chance(drawn, shares, count) < _ALPHA[count == _DRAWS]):
                weights = experiment.weights.items()
                counts = ", ".join(f"{name} {drawn[name]} (weight {weight})" for name, weight in weights)
                return f"the weights are not in force: {count} draws gave {counts}"
            if limit.passed:
                return f"the gateway let {count} of {_DRAWS} draws of an arm take {_DRAW_S:g} s"
        return ""

    def _draw(self, experiment: ExperimentSpec) -> tuple[str, str | None]:
        """What is wrong, and the arm that the gateway drew."""
        problem, arm = self.gateway.ask(f"{experiment.name}.experiment")
        return problem or _stranger(experiment, arm), arm


def _chance(drawn: Mapping[str, int], shares: Mapping[str, float], count: int) -> float:
    """P-value of the draws under the shares; 1 with a single arm."""
    statistic = sum((drawn[name] - share * count) ** 2 / (share * count) for name, share in shares.items())
    return float(chdtrc(len(shares) - 1, statistic)) if len(shares) > 1 else 1.0


def _stranger(experiment: ExperimentSpec, route: str | None) -> str:
    if route in experiment.weights:
        return ""
    return f"it answers through {route or 'an unnamed route'}, not through one of {', '.join(experiment.weights)}"
