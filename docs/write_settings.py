"""Writes ``docs/settings.md`` from the settings classes: ``python docs/write_settings.py > docs/settings.md``."""

from __future__ import annotations

import re
import types
import typing

from pydantic.fields import FieldInfo

from financial_assets.settings import Settings
from financial_assets.settings.base import SettingsGroup

__all__ = ["settings_page"]

_TITLES = {
    "MarketSettings": "Prices",
    "TrainingSettings": "Training and tracking",
    "WalkForwardSettings": "The walk-forward",
    "ServingSettings": "Serving",
    "ExperimentSettings": "The experiment",
    "BusinessSettings": "What a promotion is worth",
    "OrderSettings": "Orders and the paper book",
    "RetrainingSettings": "Retraining",
    "MonitoringSettings": "Metrics",
    "NotificationSettings": "Notifications",
    "ApiSettings": "Signals and risk over HTTP",
    "Settings": "State",
}
_LIMITS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}", "min_length": "not empty"}
_INTRODUCTION = """\
# Settings

Written by `python docs/write_settings.py > docs/settings.md` from `financial_assets/settings/`; a test keeps it up to
date.

Every setting is an environment variable. All of them are checked before anything runs; an error names the variable, its
value, what is allowed and what the setting is for. A variable that looks like a setting but is not one (`TICKER`) is an
error too, because it would be ignored silently. An empty variable counts as unset. Passwords in addresses are shown as
`***` everywhere.

The file `.env` of the current folder is read, too; the environment takes precedence. What neither sets is taken from
the state folder. It remembers the settings under [Prices](#prices), `VARIANTS`, `EXTERNAL_MODELS`, `SEED`,
`SEQUENCE_LENGTH`, `MAX_EPOCHS`, `HYPERPARAMETERS` and `ROLLOUT_POLICY`, so that later commands need only its path:
`FINANCIAL_ASSETS_HOME` or
`financial-assets --home PATH`.

How to add one: [a setting](how-to/setting.md)."""


def settings_page() -> str:
    """The page: one table per group of settings, in data-flow order."""
    groups = [group for group in Settings.__mro__ if issubclass(group, SettingsGroup) and group is not SettingsGroup]
    lines = [_INTRODUCTION]
    for group in [*groups[1:], groups[0]]:
        lines += ["", f"## {_TITLES[group.__name__]}", "", "| variable | default | allowed | meaning |"]
        lines += ["| --- | --- | --- | --- |"]
        lines += [_row(name, Settings.model_fields[name]) for name in vars(group).get("__annotations__", {})]
    return "\n".join(lines) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split()).replace("``", "`")
    cells = (f"`{name.upper()}`", _default(field.default), _allowed(field), meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{','.join(value) if isinstance(value, tuple) else value}`"


def _allowed(field: FieldInfo) -> str:
    kinds = [field.annotation]
    if typing.get_origin(field.annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(field.annotation) if kind is not type(None)]
    kinds = [typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind for kind in kinds]
    choices = [
        choice for kind in kinds if typing.get_origin(kind) is typing.Literal for choice in typing.get_args(kind)
    ]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = [
        text.format(f"{getattr(limit, name):,.16g}")
        for limit in field.metadata
        for name, text in _LIMITS.items()
        if getattr(limit, name, None) is not None
    ]
    words = {"int": "integer", "float": "number", "bool": "`true` or `false`", "date": "date", "Path": "path"}
    kind = words.get(getattr(kinds[0], "__name__", ""), "text")
    return re.sub(r"^text, not empty$", "text", ", ".join([kind, *limits]))


if __name__ == "__main__":
    print(settings_page(), end="")
