"""Prices from files (setting ``PRICE_FILES``): CSV, Parquet or Arrow of any common vendor, packed or not.

``FilePrices`` is the price source; ``survey`` reads the same files for a person who wants to see what is in them.
"""

from financial_assets.market.sources.files.rules import ADJUSTMENTS, FileBars, FileRules
from financial_assets.market.sources.files.source import FilePrices, FileProblem, grouped, join_bars, survey

__all__ = ["ADJUSTMENTS", "FileBars", "FilePrices", "FileProblem", "FileRules", "grouped", "join_bars", "survey"]
