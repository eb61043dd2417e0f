"""Every rule that the manifests keep, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.k8s import k8s_access_rules as access
from tests.k8s import k8s_kinds as kinds
from tests.k8s import k8s_network_rules as network
from tests.k8s import k8s_workload_rules as workloads
from tests.k8s.k8s_objects import Object

Rule = Callable[[Sequence[Object]], Iterator[str]]
RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        kinds.shapes,
        kinds.seldon,
        workloads.limits,
        workloads.hardened,
        workloads.probed,
        workloads.labelled,
        workloads.disruption,
        workloads.services,
        workloads.images,
        workloads.seldon_names,
        workloads.volumes,
        network.default_deny,
        network.flows,
        network.ports,
        access.rights,
        access.bindings,
        access.settings,
        access.documented,
        access.environment,
        access.workspace,
    )
}
