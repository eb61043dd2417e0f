"""The serving target of a cluster that follows a Git repository."""

from financial_assets.serving.gitops.target import GitOpsTarget

__all__ = ["GitOpsTarget"]
