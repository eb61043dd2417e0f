"""What a person reads in the Dagster UI: tables, plots, figures and column schemas made from domain values."""

from __future__ import annotations

import base64
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

_MOST_ROWS = 50
"""Rows of a table kept in the event log; the table says how many were left out."""


def table(frame: pd.DataFrame, *, most: int = _MOST_ROWS) -> dg.MarkdownMetadataValue:
    """A frame as a Markdown table of at most ``most`` rows, saying how many were left out.

    Parameters
    ----------
    frame
        Any frame; floats are shown with six significant digits, sessions without a time of day.
    most
        Rows shown.
    """
    shown = frame.head(most)
    header = "| " + " | ".join(_cell(name) for name in shown.columns) + " |"
    rule = "|" + " --- |" * len(shown.columns)
    rows = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in shown.itertuples(index=False)]
    left_out = [f"\n… and {len(frame) - most:,} more rows"] if len(frame) > most else []
    return dg.MetadataValue.md("\n".join([header, rule, *rows, *left_out]))


def _cell(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return str(value.date())
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).replace("|", "\\|").replace("\n", " ").replace("\r", " ")


def rounded(value: float, digits: int = 4) -> float:
    """A figure with so many significant digits, as a person reads it; Dagster shows all that it is given."""
    return float(f"{value:.{digits}g}")


def plot(picture: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A picture (PNG or SVG) shown inside the asset's page."""
    kind = "svg+xml" if picture.startswith(b"<svg ") else "png"
    encoded = base64.b64encode(picture).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/{kind};base64,{encoded})")


def link(path: Path) -> dg.PathMetadataValue:
    """A file on the machine that made it."""
    return dg.MetadataValue.path(path)


def column_schema(schema: Any) -> dg.TableSchemaMetadataValue:
    """Dagster's column schema of a pandera schema: names, types, descriptions and constraints."""
    from dagster_pandera import pandera_schema_to_dagster_type

    with warnings.catch_warnings():
        # The one function of dagster-pandera we use is marked as beta; its result is checked by a test.
        warnings.simplefilter("ignore", dg.BetaWarning)
        dagster_type = pandera_schema_to_dagster_type(schema)
    value = dagster_type.metadata["schema"]
    if not isinstance(value, dg.TableSchemaMetadataValue):
        raise TypeError(f"dagster-pandera gave {type(value).__name__}, not a table schema")
    return value


_REFERENCES = "dagster/code_references"


def with_source(assets: Iterable[dg.AssetsDefinition]) -> Sequence[Any]:
    """The assets with a reference to the line that defines each: "Open in editor" on its page.

    Those that bring one (:func:`source_reference`) keep it.
    """
    with warnings.catch_warnings():
        # Marked as beta by Dagster; a test looks at what it gives.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [
            one if any(_REFERENCES in spec.metadata for spec in one.specs) else dg.with_source_code_references([one])[0]
            for one in assets
        ]


def source_reference(function: Callable[..., Any]) -> dict[str, Any]:
    """Metadata with the line that defines ``function``; Dagster finds that of what it is wrapped in."""
    path, line = inspect.getsourcefile(function), inspect.getsourcelines(function)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=str(Path(path or "").resolve()), line_number=line)
        return {_REFERENCES: dg.CodeReferencesMetadataValue(code_references=[reference])}


def column_lineage(upstream: dg.AssetKey, columns: Mapping[str, Iterable[str]]) -> dg.TableColumnLineage:
    """Dagster's column lineage: which columns of ``upstream`` each column is made of."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(asset_key=upstream, column_name=source) for source in sources]
            for column, sources in columns.items()
        }
    )


def quality_metadata(description: str, checked: int, failures: pd.DataFrame) -> dict[str, Any]:
    """Metadata of a data check: its rule, the number of rows it was applied to, and the rows that broke it."""
    metadata: dict[str, Any] = {"rule": description, "rows checked": checked, "rows failed": len(failures)}
    if not failures.empty:
        metadata["failed rows"] = table(failures)
    return metadata


def findings(checked: int, failures: pd.DataFrame) -> str:
    """What a data check has found, in one sentence: how many rows fail, and the first of them."""
    if failures.empty:
        return f"None of {checked:,} rows fails."
    first = failures.iloc[0]
    parts = [_cell(first[name]) for name in ("ticker", "date") if name in failures and pd.notna(first[name])]
    shown = ": ".join([" ".join(parts)] * bool(parts) + [_cell(first["problem"])] * ("problem" in failures))
    more = len(failures) - 1
    rest = f", and {more:,} more" if more else ""
    return f"{len(failures):,} of {checked:,} rows {'fails' if not more else 'fail'}: {shown}{rest}."


def quality_check(name: str, rule: str, checked: int, failures: pd.DataFrame, **result: Any) -> dg.AssetCheckResult:
    """The result of a data check, passed if no row broke its rule; ``result`` holds severity and description.

    Without a description it says what was found.
    """
    metadata = quality_metadata(rule, checked, failures)
    said: dict[str, Any] = {**result, "description": result.get("description") or findings(checked, failures)}
    return dg.AssetCheckResult(check_name=name, passed=failures.empty, metadata=metadata, **said)


def refusal(reason: str, failures: pd.DataFrame) -> dg.Failure:
    """The failure of a run whose results break a rule, naming the first rows; another attempt would not help."""
    return dg.Failure(f"{reason}\n{failures.head(10).to_string(index=False)}", allow_retries=False)
