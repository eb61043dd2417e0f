"""What a run prints on the terminal: one line per message, headed by the asset, without internal events."""

from __future__ import annotations

import logging
import sys
from typing import Any

import dagster as dg
from rich.console import Console
from rich.logging import RichHandler

__all__ = ["CONSOLE", "console_logger"]

CONSOLE: dict[str, Any] = {"console": {"config": {}}}
"""Run configuration that selects the logger."""


class _Line(logging.Formatter):
    """The asset and its message; a failure with what caused it."""

    def format(self, record: logging.LogRecord) -> str:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        step = str(meta.get("step_key") or meta.get("job_name") or "").replace("__", "/")
        event = getattr(record, "dagster_event", None) or meta.get("dagster_event")
        message = str(meta.get("orig_message") or record.getMessage())
        cause = _cause(event)
        return f"{step:24} {message}" + (f"\n{cause}" if cause else "")


class _PlainLine(_Line):
    """The same with time and level in front."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:8} {super().format(record)}"


def _cause(event: Any) -> str:
    """The first line of every exception behind a failed step."""
    error = getattr(getattr(event, "event_specific_data", None), "error", None)
    lines: list[str] = []
    while error is not None:
        lines.append(error.message.strip())
        error = error.cause
    return "\n".join(lines)


@dg.logger({"log_level": dg.Field(str, default_value="INFO", description="Least severe level that is printed")})
def console_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """Lines on standard error; wrapped to a terminal's width, whole in a file."""
    logger = logging.getLogger("financial_assets.console")
    logger.setLevel(context.logger_config["log_level"])
    logger.propagate = False
    if not any(isinstance(handler.formatter, _Line) for handler in logger.handlers):
        handler = _terminal_handler() if sys.stderr.isatty() else logging.StreamHandler()
        handler.setFormatter(_Line() if sys.stderr.isatty() else _PlainLine())
        logger.addHandler(handler)
    return logger


def _terminal_handler() -> logging.Handler:
    return RichHandler(
        console=Console(stderr=True), show_path=False, markup=False, rich_tracebacks=False, log_time_format="%H:%M:%S"
    )
