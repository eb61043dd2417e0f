"""Errors of the domain in the words of a notebook: what a run reads from settings is an argument here."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

from financial_assets.errors import FinancialAssetsError

_SETTING = re.compile(r"\b(?:BUSINESS|WALK_FORWARD)_([A-Z_]+)\b")
"""Settings that are an argument without their first word."""

_ARGUMENT_OF = {
    "COST_BPS": "cost_bps",
    "SEQUENCE_LENGTH": "sequence_length",
    "VARIANTS": "variants",
    "INGESTION_START_DATE": "start of fa.load_panel",
    "BUSINESS_BOOKS": "book",
    "BUSINESS_SPREAD": "half_spread_bps",
}


@contextmanager
def named_as_arguments() -> Generator[None]:
    """Errors raised within name the argument to change, not the setting of a run; their type stays."""
    try:
        yield
    except FinancialAssetsError as error:
        said = in_arguments(str(error))
        if said == str(error):
            raise
        raise type(error)(said) from error


def in_arguments(text: str) -> str:
    """``text`` with the names of arguments in place of those of settings."""
    for setting, argument in _ARGUMENT_OF.items():
        text = re.sub(rf"\b{setting}\b", argument, text)
    return _SETTING.sub(lambda found: found[1].lower(), text)
