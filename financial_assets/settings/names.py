"""Variables of the environment that look like settings and are not.

A misspelt setting would be ignored silently: the run would use the default, and its results would answer a question
that nobody asked. It is therefore refused, like any other setting that cannot be used; a warning would be lost in the
log of a daemon. In turn, the rule must never mistake a variable of another program for a setting. It compares whole
names only, skips short words that are names of other things (``SPEED``, ``DEVICES``), and skips what Kubernetes and
Docker write into every container for each service.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rapidfuzz import process
from rapidfuzz.distance import OSA, JaroWinkler  # OSA (optimal string alignment): a swap of neighbours is one edit

_PREFIX = "FINANCIAL_ASSETS_"
_SHARED = "MLFLOW_"
"""Many more variables of this family are MLflow's own, so only a single typing error counts."""
_SHORTEST = 7
"""Shorter names (``SEED``, ``DEVICE``) are next to too many ordinary words."""
_LONG = 12
"""From this length on two typing errors are allowed for, below one."""
_WORDS = 3
"""A name of so many words is also recognised without its last one: ``RETRAIN_COOLDOWN``."""
_CUT = 3
"""A last word of so many letters can be a longer one cut short."""
_FOREIGN_WORDS = frozenset(
    {"ID", "IDS", "NAME", "NAMES", "HOST", "PORT", "USER", "USERNAME", "PASSWORD", "TOKEN", "TIME"}
)
"""A name that differs from a setting only by ending in one of these means something else on purpose."""
_SERVICE_LINK = re.compile(r".+_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)")


def nearest_names(value: str, names: Sequence[str]) -> str:
    """The three of ``names`` most like ``value``, as text: ``XLON, XLIM or XBOM``."""
    # Jaro-Winkler gives weight to the first letters, where codes of exchanges carry their meaning.
    nearest = process.extract(value.upper(), names, scorer=JaroWinkler.normalized_similarity, limit=3)
    *others, last = [name for name, _, _ in nearest]
    return f"{', '.join(others)} or {last}" if others else last


def misspelt(variables: Iterable[str], settings: Sequence[str], *, file: str | None = None) -> list[str]:
    """One line for each variable that looks like a setting and is not one.

    Parameters
    ----------
    variables
        Their names; upper and lower case are the same, as they are for settings.
    settings
        Names of all settings, in capitals.
    file
        Where the variables are set; default: in the environment.
    """
    lines: list[str] = []
    for name in sorted(variables):
        nearest = _nearest(name.upper(), settings)
        if nearest and file:
            lines.append(f"{name}: is not a setting; did you mean {nearest}? Rename it in {file} or remove the line")
        elif nearest:
            lines.append(
                f"{name}: is not a setting; did you mean {nearest}? Rename or unset it; if it belongs to another "
                f"program, start this one with `env -u {name} ...`"
            )
    return lines


def _nearest(name: str, settings: Sequence[str]) -> str | None:
    """The setting that ``name`` was probably meant to be; ``None`` if it is one, or another program's variable."""
    if name in settings or _SERVICE_LINK.fullmatch(name):
        return None
    close = [(OSA.distance(name, setting), setting) for setting in settings if _is_close(name, setting)]
    if not close and name.startswith(_PREFIX):
        # Only FINANCIAL_ASSETS_HOME has the prefix, but whoever has seen it may expect it on the others, too.
        meant = name.removeprefix(_PREFIX)
        close = [
            (OSA.distance(meant, setting), setting)
            for setting in settings
            if setting == meant or setting.endswith(f"_{meant}") or _is_close(meant, setting)
        ]
    return min(close)[1] if close else None


def _is_close(name: str, setting: str) -> bool:
    words, wanted = name.split("_"), setting.split("_")
    if setting.startswith(_SHARED):
        return OSA.distance(name, setting) == 1
    if len(wanted) >= _WORDS and words == wanted[:-1]:
        return True
    if _shortens(words, wanted):
        return True
    if len(setting) < _SHORTEST or abs(len(name) - len(setting)) > 2:
        return False
    if words[:-1] == wanted[:-1] and words[-1] in _FOREIGN_WORDS:
        return False
    return OSA.distance(name, setting) <= (2 if len(setting) >= _LONG else 1)


def _shortens(words: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the last of several words is cut short and the others are the same: ``SEQUENCE_LEN``."""
    if len(words) != len(wanted) or len(words) == 1 or words[:-1] != wanted[:-1] or words[-1] in _FOREIGN_WORDS:
        return False
    return len(words[-1]) >= _CUT and wanted[-1].startswith(words[-1])
