"""The manifests as kubectl renders them."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.k8s.k8s_objects import Object, load_all

ROOT = Path(__file__).parents[2]
OLDEST = (1, 27)  # kustomize 5; the `labels` with templates and the `replacements` of our files need it


@cache
def _rendered(folder: str) -> tuple[Object, ...]:
    version = json.loads(_kubectl("version", "--client", "--output", "json"))["clientVersion"]
    found = int(version["major"]), int(version["minor"].rstrip("+"))
    assert found >= OLDEST, f"kubectl {found} cannot render these manifests; {OLDEST} or later is needed"
    return tuple(load_all(_kubectl("kustomize", str(ROOT / "k8s" / folder))))


def _kubectl(*arguments: str) -> str:
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr  # a deprecated field
    return done.stdout


@pytest.fixture
def render() -> Callable[[str], list[Object]]:
    """Renders a folder below ``k8s``; the objects are the test's own to change."""
    return lambda folder: copy.deepcopy(list(_rendered(folder)))
