"""Where models are served, and how that place is reached."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from financial_assets.redaction import has_credentials, has_password, redact_address, without_user
from financial_assets.settings.base import SettingsGroup, check_server, has_scheme

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ADDRESS = re.compile(r"(?P<host>[^\s/:@]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
_BRANCH = re.compile(r"(?!-)(?!.*(\.\.|//|@\{|/\.|\.lock$|/$|\.$))[A-Za-z0-9._/-]+")
_HTTP_PORT = 80


def _check_store(value: str) -> str:
    parts = urlsplit(value)
    if parts.query or parts.fragment or has_credentials(value) or "@" in value.split("/", 3)[2]:
        raise ValueError("is an address only: no user, query or fragment (credentials come from the environment)")
    if parts.scheme == "file" and (parts.netloc or not PurePosixPath(parts.path).is_absolute()):
        raise ValueError("a volume is given as an absolute path after three slashes, e.g. file:///mnt/artifacts")
    if parts.scheme != "file" and not parts.netloc:
        raise ValueError(f"names no bucket, e.g. {parts.scheme}://models/financial-assets")
    if ".." in PurePosixPath(parts.path).parts:
        raise ValueError("must not climb with ..")
    return value


def _check_gateway(value: str) -> str:
    if not urlsplit(value).netloc:
        raise ValueError("names no host, e.g. http://seldon-mesh")
    if has_credentials(value):
        raise ValueError("is shown to everybody who may ask for predictions: it must hold no user and no password")
    return check_server(value).rstrip("/")


def _check_repository(value: str) -> str:
    without = without_user(value)[0]
    if has_password(value) or redact_address(without) != without:
        raise ValueError(
            "holds a password, which every process list and log would show; use an SSH key or a Git credential helper"
        )
    return value


def _check_address(value: str) -> str:
    address = _ADDRESS.fullmatch(value)
    if address is None or not 0 < int(address["port"]) < 2**16:
        raise ValueError("must be host:port, without a scheme, e.g. seldon-mesh:80")
    return value


def _check_name(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError("is not a Kubernetes name: lower-case letters, digits and hyphens, at most 63")
    return value


def _check_branch(value: str) -> str:
    if not _BRANCH.fullmatch(value):
        raise ValueError("is not a branch name, e.g. main or environments/dev")
    return value


def _check_folder(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0] == ".git":
        raise ValueError("must be a folder inside the repository, e.g. k8s/overlays/dev/serving")
    return str(path)


_Store = Annotated[str, has_scheme("s3", "gs", "file"), AfterValidator(_check_store)]
_Gateway = Annotated[str, has_scheme("http", "https"), AfterValidator(_check_gateway)]
_Name = Annotated[str, AfterValidator(_check_name)]


class ServingSettings(SettingsGroup):
    """The serving target and what it needs."""

    serving_target: Literal["local", "kubernetes", "gitops"] = "local"
    """Where models are served: ``local`` (Envoy and MLServer on this machine), ``kubernetes`` or ``gitops``."""

    artifact_store_uri: _Store | None = Field(default=None, repr=False)
    """Where artefacts are put for a cluster to read: ``s3://bucket/path``, ``gs://bucket/path``, or ``file:///path``
    of a volume that this program and the model servers mount at the same path. Credentials and ``AWS_ENDPOINT_URL``
    are those of any AWS client; ``gs://`` needs the package ``gcsfs`` and is not tested."""

    artifact_store_secret: _Name | None = None
    """Secret of the serving namespace with which the model servers read the store (the Models' ``secretName``);
    default: what the cluster's model servers are configured with."""

    serving_gateway_url: _Gateway | None = Field(default=None, repr=False)
    """Base URL of the cluster's gateway (Seldon's mesh) as reached from here, e.g. ``http://seldon-mesh``."""

    serving_gateway_grpc: Annotated[str, AfterValidator(_check_address)] | None = None
    """``host:port`` of the gateway's gRPC, spoken without TLS; default: host and port of ``SERVING_GATEWAY_URL``, where
    the mesh has it."""

    kubernetes_context: str | None = None
    """Context of the kubeconfig; default: the pod's service account, else the current context."""

    kubernetes_namespace: _Name = "financial-inference"
    """Namespace of Models and Experiments; also written into the manifests of ``gitops``."""

    gitops_repository: Annotated[str, AfterValidator(_check_repository)] | None = Field(default=None, repr=False)
    """For ``SERVING_TARGET=gitops``: URL or path of the Git repository that the cluster is synchronised from."""

    gitops_branch: Annotated[str, AfterValidator(_check_branch)] = "main"
    """For ``SERVING_TARGET=gitops``: branch to push to."""

    gitops_path: Annotated[str, AfterValidator(_check_folder)] = "k8s/overlays/dev/serving"
    """For ``SERVING_TARGET=gitops``: folder of the manifests in the repository."""

    request_timeout: float = Field(default=10.0, gt=0, le=600)
    """Deadline of one inference request, in seconds."""

    ready_timeout: float = Field(default=120.0, gt=0, le=3600)
    """Longest wait for the serving plane to get ready, in seconds."""

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if self.serving_target == "local":
            return self
        needed = ["serving_gateway_url", "artifact_store_uri"]
        if self.serving_target == "gitops":
            needed.append("gitops_repository")
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError("\n  ".join(self._needs(name) for name in missing))
        if self.serving_gateway_grpc is None and str(self.serving_gateway_url).startswith("https:"):
            raise ValueError(
                "SERVING_GATEWAY_GRPC: not set; it cannot be taken from an https SERVING_GATEWAY_URL, because gRPC is "
                "spoken without TLS here; give host:port of a plain one"
            )
        return self

    def _needs(self, name: str) -> str:
        meaning = " ".join((type(self).model_fields[name].description or "").split())
        return f"{name.upper()}: not set; SERVING_TARGET={self.serving_target} needs it ({meaning})"

    @property
    def gateway_grpc(self) -> str:
        """``host:port`` of the gateway's gRPC, the default resolved; empty without a gateway."""
        if self.serving_gateway_grpc or not self.serving_gateway_url:
            return self.serving_gateway_grpc or ""
        parts = urlsplit(self.serving_gateway_url)
        host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
        return f"{host}:{parts.port or _HTTP_PORT}"
