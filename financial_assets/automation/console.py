"""What a run prints on the terminal: one line per message, headed by the asset, without internal events."""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from typing import Any

import dagster as dg
from rich.console import Console
from rich.logging import RichHandler

CONSOLE: dict[str, Any] = {"console": {"config": {}}}
"""Run configuration that selects the logger."""


_NOT_EXECUTED = re.compile(r"Dependencies for step \S+ (?:failed|were not executed|were skipped)")
_OWN = re.compile(r"^(?:dagster\.\S*\.Failure|financial_assets\.errors\.\w+): ")
"""Classes whose text needs no name in front: they are raised on purpose, with a sentence for a person."""


class _Line(logging.Formatter):
    """The asset and its message; a failure with what caused it."""

    def format(self, record: logging.LogRecord) -> str:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        step = str(meta.get("step_key") or meta.get("job_name") or "").replace("__", "/")
        event = getattr(record, "dagster_event", None) or meta.get("dagster_event")
        message = str(meta.get("orig_message") or record.getMessage())
        if getattr(event, "is_step_failure", False) and (cause := _cause(event)):
            message = f"failed: {cause}"
        return f"{step:24} {message}"


class _OnePerProblem(logging.Filter):
    """Leaves out the steps that were not executed because another one failed; the run's last line counts them."""

    def __init__(self) -> None:
        super().__init__()
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is printed."""
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        run = str(meta.get("run_id"))
        message = str(meta.get("orig_message") or record.getMessage())
        if _NOT_EXECUTED.match(message):
            self._left_out[run] += 1
            return False
        event = getattr(record, "dagster_event", None) or meta.get("dagster_event")
        if getattr(event, "is_job_failure", False) and (count := self._left_out.pop(run, 0)):
            steps = "step that needs" if count == 1 else "steps that need"
            record.dagster_meta = meta | {"orig_message": f"{message} Not executed: {count} {steps} their results."}
        return True


class _PlainLine(_Line):
    """The same with time and level in front."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:8} {super().format(record)}"


def _cause(event: Any) -> str:
    """What every exception behind a failed step says, each sentence once."""
    error = getattr(getattr(event, "event_specific_data", None), "error", None)
    texts: list[str] = []
    while error is not None:
        text = _OWN.sub("", error.message.strip())
        # Dagster's wrapper says nothing new, and an asset's failure repeats the error that it was raised from.
        if text not in texts and not (error.cause and "DagsterExecutionStepExecutionError" in text):
            texts.append(text)
        error = error.cause
    return "\n".join(texts)


@dg.logger({"log_level": dg.Field(str, default_value="INFO", description="Least severe level that is printed")})
def console_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """Lines on standard error; wrapped to a terminal's width, whole in a file."""
    logger = logging.getLogger("financial_assets.console")
    logger.setLevel(context.logger_config["log_level"])
    logger.propagate = False
    if not any(isinstance(handler.formatter, _Line) for handler in logger.handlers):
        handler, line = logging.StreamHandler(), _PlainLine()
        if sys.stderr.isatty():
            terminal = Console(stderr=True)
            handler = RichHandler(console=terminal, show_path=False, markup=False, log_time_format="%H:%M:%S")
            line = _Line()
        handler.setFormatter(line)
        handler.addFilter(_OnePerProblem())
        logger.addHandler(handler)
    return logger
