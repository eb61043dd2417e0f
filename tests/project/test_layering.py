"""The rooms of the house: domain packages know nothing of Dagster, and imports run one way."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "financial_assets"
# What the bare MLServer image holds of this package.
RUNTIME = ("runtime", "request_checks", "bar_rules")

# Each layer may import itself and what stands before it.
LAYERS = [
    {"redaction", "folders", "display"},
    {"errors", "disk", "atomic", "kept", "locking", "drivers", "chain", "halt", "signing"},
    {"settings"},
    {"tracking"},
    {"market"},
    {"features"},
    {"scoring"},
    {"portfolio"},
    {"trading"},
    {"models"},
    {"serving"},
    {"experiment"},
    {"monitoring"},
    {"installation"},
    {"resources", "metadata"},
    {"workflows"},
    {"assets"},
    {"automation"},
    {"definitions"},
    {"doctor", "cli", "api", "research", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
DOMAIN = {
    "redaction",
    "folders",
    "display",
    "errors",
    "disk",
    "atomic",
    "kept",
    "locking",
    "drivers",
    "tracking",
    "market",
    "features",
    "scoring",
    "portfolio",
    "trading",
    "chain",
    "halt",
    "signing",
    "models",
    "serving",
    "experiment",
    "monitoring",
}
MAY_READ_SETTINGS = {"installation", "resources", "definitions", "doctor", "cli", "api"}


@cache
def imported_modules(source: str) -> tuple[str, ...]:
    """Every module named by an import statement, wherever it stands (also inside functions)."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            found.append(node.module)
            if node.module == "financial_assets":
                found += [f"financial_assets.{alias.name}" for alias in node.names]
    return tuple(found)


def room(module: str) -> str:
    """``financial_assets.market.panel`` -> ``market``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def files() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 10
    return found


def own_room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def upward_imports(own: str, source: str) -> list[str]:
    return [
        module
        for module in imported_modules(source)
        if module.split(".")[0] == "financial_assets" and room(module) and RANK[room(module)] > RANK[own]
    ]


def dagster_imports(source: str) -> list[str]:
    return [module for module in imported_modules(source) if module.split(".")[0].startswith("dagster")]


def test_imports_run_one_way() -> None:
    upward = {
        str(path.relative_to(PACKAGE)): found
        for path in files()
        if path != PACKAGE / "__init__.py" and (found := upward_imports(own_room(path), path.read_text()))
    }
    assert upward == {}


def test_the_domain_knows_neither_dagster_nor_settings() -> None:
    violations: dict[str, list[str]] = {}
    for path in files():
        if own_room(path) in DOMAIN:
            source = path.read_text()
            settings = [name for name in imported_modules(source) if name == "financial_assets.settings"]
            if found := dagster_imports(source) + settings:
                violations[str(path.relative_to(PACKAGE))] = found
    assert violations == {}


def test_no_folder_holds_two_subjects() -> None:
    """A folder over 15 modules, beside its ``__init__``, has two subjects."""
    sizes = {str(folder): len(list(folder.glob("*.py"))) - 1 for folder in PACKAGE.rglob("*") if folder.is_dir()}
    assert {folder: size for folder, size in sizes.items() if size > 15} == {}


def test_only_the_edges_read_settings() -> None:
    readers = {
        own_room(path) for path in files() if "financial_assets.settings" in set(imported_modules(path.read_text()))
    }
    assert readers <= MAY_READ_SETTINGS


def test_the_serving_runtime_needs_no_training_stack() -> None:
    allowed = {"numpy", "onnxruntime", "mlserver"} | set(sys.stdlib_module_names)
    for name in RUNTIME:
        imported = set(imported_modules((PACKAGE / "serving" / f"{name}.py").read_text()))
        foreign = imported - {f"financial_assets.serving.{other}" for other in RUNTIME}
        assert {module.split(".")[0] for module in foreign} <= allowed, name


def test_planted_violations_are_seen() -> None:
    assert upward_imports("market", "def f():\n    from financial_assets.models import x") == [
        "financial_assets.models"
    ]
    assert upward_imports("market", "from financial_assets import models") == ["financial_assets.models"]
    assert dagster_imports("import dagster as dg") == ["dagster"]
    assert dagster_imports("from dagster_pandera import x") == ["dagster_pandera"]
