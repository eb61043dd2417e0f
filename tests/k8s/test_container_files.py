"""The container files: what a linter says, and what it cannot know."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.k8s.container_files import ROOT, ContainerFile, is_sent, read

FILES = {path.parent.name: path for path in sorted((ROOT / "deploy").glob("*/Dockerfile"))}
# The runtime's own imports, and what MLServer brings.
BARE = {"numpy", "onnxruntime", "mlserver"}
# What the runtime imports of this package; copied beside it.
COPIED = {"financial_assets.serving.bar_rules", "financial_assets.serving.request_checks"}


def problems(file: ContainerFile) -> Iterator[str]:
    """What is wrong with a container file, in words."""
    for base in file.of("FROM"):
        if not re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+-[\w-]+", base):
            yield f"FROM {base}: names no exact version"
    users = file.of("USER")
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield f"USER {users[-1:]}: must end as a numbered user that is not root"
    order = [name for name, _ in file.instructions]
    if users and "RUN" in order[order.index("USER") :]:
        yield "RUN after USER"
    for sources, _ in file.copies():
        for source in sources:
            if not (ROOT / source).exists():
                yield f"COPY {source}: does not exist"
            elif not is_sent(source):
                yield f"COPY {source}: .dockerignore keeps it back"
    for command in file.of("RUN"):
        for install in re.findall(r"pip install[^&]*", command):
            if "--constraint" not in install and "-c " not in install:
                yield f"{install.strip()}: not held to constraints.txt"
    if not file.command:
        yield "no CMD"


def test_there_are_two() -> None:
    assert set(FILES) == {"dagster", "mlserver"}


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_wrong(name: str) -> None:
    assert list(problems(read(FILES[name]))) == []


@pytest.mark.parametrize("name", FILES)
def test_the_linter_is_content(name: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "hadolint"), str(FILES[name])], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("FROM python:3.11.13-slim-bookworm", "FROM python:latest", "no exact version"),
        ("USER 1000:1000", "USER root", "not root"),
        ("USER 1000:1000", "", "not root"),
        ("USER 1000:1000", "USER 1000:1000\nRUN touch /tmp/x", "RUN after USER"),
        ("COPY constraints.txt", "COPY constraints.text", "does not exist"),
        ("COPY constraints.txt", "COPY Makefile", ".dockerignore"),
        ("pip install --constraint /opt/runtime/constraints.txt", "pip install", "not held"),
    ],
)
def test_a_planted_mistake_is_named(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = FILES["mlserver"].read_text()
    assert old in text
    (tmp_path / "Dockerfile").write_text(text.replace(old, new, 1))
    assert any(said in line for line in problems(read(tmp_path / "Dockerfile")))


def test_what_mlserver_gets_imports_nothing_that_is_not_installed_there() -> None:
    file = read(FILES["mlserver"])
    installed = set(re.findall(r"constraints\.txt (.+)$", file.of("RUN")[-1])[0].split())
    assert installed == BARE
    for sources, _ in file.copies():
        for source in (name for name in sources if name.endswith(".py")):
            imported = imports((ROOT / source).read_text())
            assert imported <= BARE | COPIED | set(sys.stdlib_module_names), source
    copied = {source for sources, _ in file.copies() for source in sources}
    assert {f"{module.replace('.', '/')}.py" for module in COPIED} <= copied
    assert imports("from financial_assets.errors import X\nimport torch.nn") == {"financial_assets.errors", "torch"}


def test_torch_is_the_makefiles_and_the_extras_are_the_packages() -> None:
    runs = " ".join(read(FILES["dagster"]).of("RUN"))
    torch = re.findall(r"torch==[\d.]+", runs)
    assert torch == re.findall(r"torch==[\d.]+", (ROOT / "Makefile").read_text())
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for extras in re.findall(r"\.\[([\w,]+)\]", runs) for extra in extras.split(",")} <= set(offered)


def test_what_git_and_editors_leave_is_not_sent() -> None:
    sent: Callable[[str], bool] = is_sent
    for path in (
        "constraints.txt",
        "financial_assets/serving/runtime.py",
        "financial_assets/experiment/plan/policy.yaml",
    ):
        assert sent(path), path
    for path in (
        ".git/config",
        ".venv/bin/python",
        ".financial_assets/mlflow.db",
        "tests/conftest.py",
        "rclone-s3.json",
    ):
        assert not sent(path), path


def imports(source: str) -> set[str]:
    """Top-level packages that a module imports; of our own, the modules."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name if name.startswith("financial_assets.") else name.split(".")[0] for name in found}
