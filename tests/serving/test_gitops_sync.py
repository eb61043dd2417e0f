"""The GitOps target before a real plane: readiness is what the gateway says, not what was committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from financial_assets.errors import NotReadyError
from financial_assets.serving.client.inference import InferenceClient
from financial_assets.serving.manifests import Manifest, experiment_manifest, model_manifest

pytestmark = [pytest.mark.integration, pytest.mark.debian("git")]

MakeModel = Callable[..., Path]


def split(synced: Any, write_tiny: MakeModel, prefix: str, logits: dict[str, float], **shape: int) -> list[Manifest]:
    """Models of these logits, and an experiment in which the first is the default of 3 parts and others have 1."""
    names = [f"{prefix}-{letter}" for letter in logits]
    models = []
    for name, logit in zip(names, logits.values(), strict=True):
        folder = synced.volume / name
        models.append(model_manifest(name, str(folder if folder.exists() else write_tiny(folder, logit, **shape))))
    weights = {name: 1 + 2 * (name == names[0]) for name in names}
    return [*models, experiment_manifest(f"{prefix}-experiment", default=names[0], weights=weights)]


def test_a_split_is_ready_when_the_gateway_knows_its_new_member(synced: Any, write_tiny: MakeModel) -> None:
    target = synced.target
    target.apply(split(synced, write_tiny, "old", {"a": 0.0, "b": 1.0}))
    target.apply([experiment_manifest("old-experiment", default="old-a", weights={"old-a": 1, "old-b": 0})])
    target.wait_ready(["old-a", "old-b", "old-experiment"], 60)
    # The new member is served, but without weight: neither its readiness nor the draws would tell.
    target.apply(split(synced, write_tiny, "old", {"c": 2.0})[:1])
    target.wait_ready(["old-c"], 60)
    synced.settle()
    synced.pause()
    try:
        target.apply([experiment_manifest("old-experiment", default="old-a", weights={"old-a": 1, "old-c": 0})])
        with pytest.raises(NotReadyError, match=r"old-experiment: the split in force does not know old-c.*Argo CD"):
            target.wait_ready(["old-experiment"], 0.2)
    finally:
        synced.resume()
    target.wait_ready(["old-experiment"], 60)


def test_a_split_is_ready_when_the_arms_are_drawn_by_its_new_weights(synced: Any, write_tiny: MakeModel) -> None:
    target = synced.target
    target.apply(split(synced, write_tiny, "share", {"a": 0.0, "b": 1.0}))
    target.wait_ready(["share-experiment"], 60)
    synced.settle()
    for weights in ({"share-a": 1, "share-b": 1}, {"share-a": 1, "share-b": 0}):
        synced.pause()
        try:
            target.apply([experiment_manifest("share-experiment", default="share-a", weights=weights)])
            with pytest.raises(
                NotReadyError, match=r"share-experiment: the weights are not in force: [0-9]+ draws gave"
            ):
                target.wait_ready(["share-experiment"], 0.2)
        finally:
            synced.resume()
        target.wait_ready(["share-experiment"], 60)


def test_nothing_is_ready_before_the_branch_was_followed(synced: Any, write_tiny: MakeModel) -> None:
    target = synced.target
    synced.pause()
    try:
        target.apply(split(synced, write_tiny, "early", {"a": 0.0, "b": 1.0}))
        with pytest.raises(
            NotReadyError, match=r"early-a: the gateway answers HTTP 404.*early-experiment: the deployment check"
        ):
            target.wait_ready(["early-a", "early-experiment"], 0.2)
        status = target.status()
        assert not {"early-a", "early-experiment"} & {i.name for i in (*status.models, *status.experiments) if i.ready}
    finally:
        synced.resume()
    target.wait_ready(["early-a", "early-b", "early-experiment"], 60)


def test_routes_are_learnt_from_the_gateway(synced: Any, write_tiny: MakeModel, bars_of: Any, answer_of: Any) -> None:
    target, bars = synced.target, bars_of(3)
    target.apply(split(synced, write_tiny, "route", {"a": -1.0, "b": 1.0}))
    target.wait_ready(["route-a", "route-b", "route-experiment"], 60)
    endpoint = target.endpoint()
    assert endpoint.routes["route-b"].startswith("route-b_")
    with InferenceClient(endpoint) as client:
        for name, logit in {"route-a": -1.0, "route-b": 1.0}.items():
            answer = client.infer_batch(name, bars)
            assert answer.route == name
            np.testing.assert_allclose(answer.probability_up, answer_of(bars, logit)["probability_up"][:, 0], rtol=1e-5)


def test_models_with_covariates_are_asked_with_as_many_channels(synced: Any, write_tiny: MakeModel) -> None:
    target = synced.target
    target.apply(split(synced, write_tiny, "wide", {"a": 0.0, "b": 1.0}, channels=10))
    target.wait_ready(["wide-a", "wide-b", "wide-experiment"], 60)
