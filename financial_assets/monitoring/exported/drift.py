"""The latest judgement of drift: the file that the asset ``drift`` leaves, and the metrics that are made from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from prometheus_client.core import Metric

from financial_assets.atomic import atomic_write_text
from financial_assets.errors import MonitoringError, NotMadeYetError
from financial_assets.monitoring.drift.detection import LOSS, DriftReport
from financial_assets.monitoring.families import gauge

_STREAM = ("model_name", "stream")
_KIND = ("model_name", "kind")


def save_drift(report: DriftReport, model: str, path: Path) -> None:
    """Write the state of each stream on the last session that was judged.

    Parameters
    ----------
    report
        The judgement.
    model
        Served name of the champion that it is about.
    path
        The file; replaced as a whole.
    """
    rows = report.streams
    streams = {
        str(row["name"]): {
            "statistic": _number(row["now"] * row["threshold"]),
            "threshold": _number(row["threshold"]),
            "alarmed": bool(row["alarmed"]),
        }
        for row in rows.to_dict("records")
    }
    sessions = report.paths.index
    session = "" if sessions.empty else f"{pd.Timestamp(sessions[-1]):%Y-%m-%d}"
    atomic_write_text(path, json.dumps({"model": model, "session": session, "streams": streams}, indent=1))


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def drift_metrics(path: Path) -> Iterator[Metric]:
    """Statistic of each stream beside its threshold, and how many alarms hold.

    Raises
    ------
    NotMadeYetError
        Drift has not been judged yet.
    MonitoringError
        The file is damaged.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        model, streams = stored["model"], stored["streams"]
        values = {
            name: {(model, stream): of[name] for stream, of in streams.items()} for name in ("statistic", "threshold")
        }
        alarms = {(model, kind): 0.0 for kind in (LOSS, "feature")}
        for stream, of in streams.items():
            alarms[model, LOSS if stream == LOSS else "feature"] += bool(of["alarmed"])
        session = {(model,): pd.Timestamp(stored["session"]).timestamp()} if stored["session"] else {}
    except FileNotFoundError:
        raise NotMadeYetError(f"{path} does not exist; the asset `drift` writes it") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MonitoringError(f"{path} is damaged ({error!r}); materialize drift again") from error
    known = {name: {labels: value for labels, value in of.items() if value is not None} for name, of in values.items()}
    yield gauge(
        "financial_assets_drift_statistic", "CUSUM of a stream on the last judged session", known["statistic"], _STREAM
    )
    yield gauge("financial_assets_drift_threshold", "What raises a stream's alarm", known["threshold"], _STREAM)
    yield gauge("financial_assets_drift_alarms", "Streams whose alarm holds", alarms, _KIND)
    meaning = "Last session that was judged for drift, as the start of its day in UTC"
    yield gauge("financial_assets_drift_session_timestamp_seconds", meaning, session, ("model_name",))
