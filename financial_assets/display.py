"""How results show themselves in a notebook."""

from __future__ import annotations

import html

import pandas as pd


def section(title: str, sentence: str, *frames: pd.DataFrame) -> str:
    """HTML of a result: a heading, one sentence that says what is shown, and tables.

    Figures have four significant digits; sessions have no time of day.
    """
    tables = [frame.to_html(index=False, float_format=_figure, na_rep="", border=0) for frame in map(_days, frames)]
    return "\n".join([f"<h4>{html.escape(title)}</h4>", f"<p>{html.escape(sentence)}</p>", *tables])


def _figure(value: float) -> str:
    return f"{value:.4g}"


def _days(frame: pd.DataFrame) -> pd.DataFrame:
    days = {str(name): frame[name].dt.strftime("%Y-%m-%d") for name in frame.select_dtypes("datetime")}
    return frame.assign(**days) if days else frame
