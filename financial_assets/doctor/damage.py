"""Damaged files: the problem of each, and one remedy for all of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from financial_assets.doctor.walk import materialize
from financial_assets.errors import FinancialAssetsError


@dataclass(frozen=True)
class Damage:
    """A file that is missing or damaged.

    Attributes
    ----------
    problem
        Which file, and what is wrong with it.
    remove
        Files that must go first.
    assets
        Assets that write it again, in this order.
    lost
        What no remedy restores, empty if nothing.
    missing
        There is no such file, rather than a damaged one.
    """

    problem: str
    remove: tuple[Path, ...] = ()
    assets: tuple[str, ...] = ()
    lost: str = ""
    missing: bool = False


class Readings:
    """Reads files one after the other and remembers those that cannot be read."""

    def __init__(self) -> None:
        self.damages: list[Damage] = []

    def read(
        self,
        path: Path,
        read: Callable[[Path], object],
        *assets: str,
        remove: Sequence[Path] = (),
        needed: bool = True,
        lost: str = "",
    ) -> None:
        """Read ``path`` with ``read``; whatever that raises counts as damage.

        ``assets`` write it again once the files ``remove`` are gone. A missing file is damage only if it is ``needed``.
        """
        if not path.exists() and not path.is_symlink():
            if needed:
                self.damages.append(Damage(f"{path} is missing", (), assets, lost, missing=True))
            return
        try:
            read(path)
        except (FinancialAssetsError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            problem = reason if str(path) in reason else f"{path} is damaged: {reason}"
            self.damages.append(Damage(problem, tuple(remove), assets, lost))

    def read_one_of_many(
        self,
        path: Path,
        read: Callable[[Path], object],
        asset: str,
        *,
        is_current: bool,
        needed: bool = True,
        lost: str,
    ) -> None:
        """Read one of a row of files, of which ``asset`` writes only the current one again."""
        if is_current:
            self.read(path, read, asset, needed=needed)
        else:
            self.read(path, read, remove=[path], needed=needed, lost=lost)


def read_json(path: Path) -> object:
    """The JSON document in ``path``; ``ValueError`` if it is empty or not JSON."""
    document = json.loads(path.read_text())
    if not document:
        raise ValueError("it holds nothing")
    return document


def remedy_of(damages: Iterable[Damage]) -> str:
    """Commands in backticks, in the order in which they are run, and what they do not restore."""
    damages = list(damages)
    # Each file and each asset once: several damages may share a remedy.
    obstacles = list(dict.fromkeys(path for damage in damages for path in damage.remove))
    assets = list(dict.fromkeys(asset for damage in damages for asset in damage.assets))
    commands = [f"`rm -r {' '.join(shlex.quote(str(path)) for path in obstacles)}`"] if obstacles else []
    commands += [materialize(",".join(assets))] if assets else []
    lost = list(dict.fromkeys(damage.lost for damage in damages if damage.lost))
    return ", then ".join(commands) + (f"; lost: {'; '.join(lost)}" if lost else "")
