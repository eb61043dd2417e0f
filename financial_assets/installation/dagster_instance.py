"""Where a Dagster instance keeps the record of its runs: told from its configuration, without Dagster."""

from __future__ import annotations

import os
from pathlib import Path

import yaml


def instance_home() -> Path | None:
    """Where `financial-assets run` looks: ``DAGSTER_HOME``, or the current folder; ``None`` without dagster.yaml."""
    home = Path(os.environ.get("DAGSTER_HOME") or Path.cwd())
    return home if (home / "dagster.yaml").is_file() else None


def instance_places(home: Path) -> list[Path]:
    """Folders in which runs have left their record.

    Dagster resolves a relative ``base_dir`` from the current folder of each process, not from ``DAGSTER_HOME``. Runs
    started elsewhere would not be seen, and opening the instance would create another, empty one here.
    """
    base = sqlite_folder(home)
    if base is None or Path(base).is_absolute():
        return [home]
    places = dict.fromkeys((Path.cwd(), home.resolve()))
    return [place for place in places if (place / base).is_dir()] or [home]


def sqlite_folder(home: Path) -> str | None:
    """Where an instance that keeps its runs in SQLite has its files, as its configuration says it."""
    try:
        base = yaml.safe_load((home / "dagster.yaml").read_text())["storage"]["sqlite"]["base_dir"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None  # another database, or a damaged file, of which Dagster itself says what is wrong
    return base if isinstance(base, str) else None
