"""Damaged files: what each of them says, and one remedy for all that were found."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from financial_assets.doctor.walk import materialize
from financial_assets.errors import FinancialAssetsError

__all__ = ["Damage", "Readings", "read_json", "remedy_of"]


@dataclass(frozen=True)
class Damage:
    """A file that is missing or damaged.

    Attributes
    ----------
    said
        Which file, and what is wrong with it.
    remove
        Files that must go first.
    assets
        What makes them anew, in this order.
    lost
        What no remedy brings back, empty if nothing.
    missing
        There is no such file, rather than a damaged one.
    """

    said: str
    remove: tuple[Path, ...] = ()
    assets: tuple[str, ...] = ()
    lost: str = ""
    missing: bool = False


class Readings:
    """Reads files one after the other and remembers those that cannot be read."""

    def __init__(self) -> None:
        self.damages: list[Damage] = []

    @contextmanager
    def of(
        self, path: Path, *assets: str, remove: Sequence[Path] = (), needed: bool = True, lost: str = ""
    ) -> Generator[None]:
        """What the block raises is damage of ``path``, which ``assets`` make anew after ``remove`` are gone.

        A missing file is damage only if it is ``needed``.
        """
        if not path.exists() and not path.is_symlink():
            if needed:
                self.damages.append(Damage(f"{path} is missing", (), assets, lost, missing=True))
            yield
            return
        try:
            yield
        except (FinancialAssetsError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            said = " ".join(str(error).split())
            about = said if str(path) in said else f"{path} is damaged: {said}"
            self.damages.append(Damage(about, tuple(remove), assets, lost))

    def read(self, path: Path, read: Callable[[Path], object], *assets: str, **how: object) -> None:
        """Read ``path`` with ``read`` under :meth:`of`."""
        with self.of(path, *assets, **how):  # pyright: ignore[reportArgumentType]
            if path.exists() or path.is_symlink():
                read(path)


def read_json(path: Path) -> object:
    """The document in ``path``; ``ValueError`` if it is none or empty."""
    found = json.loads(path.read_text())
    if not found:
        raise ValueError("it holds nothing")
    return found


def remedy_of(damages: Iterable[Damage]) -> str:
    """Commands in backticks, in the order in which they are run, and what they do not bring back."""
    found = list(damages)
    gone = list(dict.fromkeys(path for damage in found for path in damage.remove))
    assets = list(dict.fromkeys(asset for damage in found for asset in damage.assets))
    commands = [f"`rm -r {' '.join(shlex.quote(str(path)) for path in gone)}`"] if gone else []
    commands += [materialize(",".join(assets))] if assets else []
    lost = list(dict.fromkeys(damage.lost for damage in found if damage.lost))
    return ", then ".join(commands) + (f"; lost: {'; '.join(lost)}" if lost else "")
