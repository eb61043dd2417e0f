"""The serving target of a cluster: Seldon Core v2 objects through the Kubernetes API."""

from financial_assets.serving.kubernetes.api import ApiCallError, SeldonApi, connect
from financial_assets.serving.kubernetes.target import KubernetesTarget

__all__ = ["ApiCallError", "KubernetesTarget", "SeldonApi", "connect"]
