"""A Model that does not prove itself does not stay, one that was there before does; the real error is raised."""

from __future__ import annotations

from typing import Any, cast

import pytest

from financial_assets.errors import FinancialAssetsError, InferenceError, NotReadyError, TargetError
from financial_assets.serving.deployment import deploy
from financial_assets.serving.manifests import model_manifest
from financial_assets.serving.target import ModelStatus, ServingTarget, TargetStatus

NAME = "baseline-predictor-v7"
MANIFEST = model_manifest(NAME, "s3://bucket/baseline-predictor-v7")


class Target:
    """Holds models; fails where it is told to."""

    name = "double"

    def __init__(self, *held: str, fails: str = "") -> None:
        self.held, self.fails = list(held), fails

    def status(self) -> TargetStatus:
        models = tuple(ModelStatus(name, None, True, f"s3://bucket/{name}") for name in self.held)
        return TargetStatus(self.name, True, None, models)

    def apply(self, manifests: list[dict[str, Any]]) -> None:
        self.held += [name for one in manifests if (name := one["metadata"]["name"]) not in self.held]
        if self.fails == "apply":
            raise TargetError("refused half-way")

    def wait_ready(self, names: list[str], timeout_s: float) -> None:
        if self.fails == "wait":
            raise NotReadyError(f"waited {timeout_s:g} s for {names[0]}")

    def delete(self, kind: str, name: str) -> None:
        if "delete" in self.fails:
            raise TargetError("no right to delete")
        self.held.remove(name)


def attempt(target: Target, prove: Any) -> float:
    return deploy(cast(ServingTarget, target), MANIFEST, 3, prove)


def wrong() -> float:
    raise InferenceError("another answer than its file gives")


def interrupted() -> float:
    raise KeyboardInterrupt


def test_a_model_that_proves_itself_stays() -> None:
    target = Target("other")
    assert attempt(target, lambda: 0.25) == 0.25
    assert target.held == ["other", NAME]


@pytest.mark.parametrize(
    ("fails", "prove", "error"),
    [
        ("apply", wrong, TargetError),
        ("wait", wrong, NotReadyError),
        ("", wrong, InferenceError),
        ("", interrupted, KeyboardInterrupt),
    ],
)
def test_a_new_one_that_does_not_is_taken_away(fails: str, prove: Any, error: type[BaseException]) -> None:
    target = Target("other", fails=fails)
    with pytest.raises(error):
        attempt(target, prove)
    assert target.held == ["other"]
    served = Target("other", NAME, fails=fails)
    with pytest.raises(error):
        attempt(served, prove)
    assert served.held == ["other", NAME]


def test_that_it_could_not_be_taken_away_is_said_beside_the_reason() -> None:
    with pytest.raises(FinancialAssetsError, match="another answer") as raised:
        attempt(Target(fails="delete"), wrong)
    assert raised.value.__notes__ == [f"and Model {NAME} could not be deleted again: no right to delete"]
