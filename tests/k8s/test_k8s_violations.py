"""Every rule of the manifests shown failing on a planted mistake; a rule that nothing can fail would prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.k8s.k8s_mistakes import PLANTED, Mutation, policy
from tests.k8s.k8s_objects import Object, of_kind
from tests.k8s.test_k8s_manifests import RULES

pytestmark = pytest.mark.debian("kubernetes-client")


@pytest.mark.parametrize(("rule", "said", "plant"), PLANTED, ids=[f"{rule}: {said}" for rule, said, _ in PLANTED])
def test_a_planted_mistake_is_named(
    render: Callable[[str], list[Object]], rule: str, said: str, plant: Mutation
) -> None:
    objects = render("base")
    plant(objects)
    found = list(RULES[rule](objects))
    assert any(said in line for line in found), found


def test_every_rule_has_a_planted_mistake() -> None:
    assert {rule for rule, _, _ in PLANTED} == set(RULES)


def test_postgresql_in_the_cluster_is_for_its_clients_only(render: Callable[[str], list[Object]]) -> None:
    objects = render("overlays/dev")
    assert len(of_kind(objects, "StatefulSet")) == 1
    policy(objects, "postgresql")["ingress"][0].pop("from")
    assert any("stranger -> financial-mlops-pytorch/postgresql:5432" in line for line in RULES["flows"](objects))
