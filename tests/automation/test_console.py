"""What a run prints: one line a message, the asset in front, a failure with its cause.

Dagster reads annotations of assets at run time, so they are not postponed here.
"""

import io
import logging
import re
import sys
from collections.abc import Iterator

import dagster as dg
import pytest

from financial_assets.automation.console import CONSOLE, console_logger
from financial_assets.errors import SourceError


@dg.asset
def bars(context: dg.AssetExecutionContext) -> None:
    """Talks."""
    context.log.debug("not for people")
    context.log.info("one message of " + 60 * "many " + "words")
    context.log.warning("a warning with [markup] and | signs")


@dg.asset(key=dg.AssetKey(["models", "baseline"]), deps=[bars])
def model() -> None:
    """Fails for a reason."""
    try:
        raise KeyError("the deep reason")
    except KeyError as error:
        raise ValueError("the model could not be made") from error


@dg.asset
def refused() -> None:
    """Fails on purpose."""
    raise dg.Failure("the bars cannot be true", allow_retries=False)


@pytest.fixture(autouse=True)
def _fresh_logger() -> Iterator[None]:
    """The logger binds to standard error once; in tests that is another one each time."""
    logger = logging.getLogger("financial_assets.console")
    kept = list(logger.handlers)
    logger.handlers.clear()
    yield
    logger.handlers[:] = kept


def run(*assets: dg.AssetsDefinition, level: str = "INFO") -> None:
    config = {"console": {"config": {"log_level": level}}} if level != "INFO" else CONSOLE
    definitions = dg.Definitions(
        assets=list(assets),
        jobs=[dg.define_asset_job("job", config={"loggers": config})],
        loggers={"console": console_logger},
    )
    with dg.DagsterInstance.ephemeral() as instance:
        definitions.resolve_job_def("job").execute_in_process(instance=instance, raise_on_error=False)


def test_one_line_a_message_with_the_asset_in_front(capsys: pytest.CaptureFixture[str]) -> None:
    run(bars)
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO     bars +one message of (many ){60}words", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING  bars +a warning with \[markup\] and \| signs", lines[1])


def test_a_failure_shows_what_caused_it(capsys: pytest.CaptureFixture[str]) -> None:
    run(bars, model)
    printed = capsys.readouterr().err
    assert "ERROR    models/baseline " in printed
    assert "ValueError: the model could not be made" in printed
    assert "KeyError: 'the deep reason'" in printed
    assert "Traceback" not in printed


@dg.asset
def explained() -> None:
    """Fails as assets do that pass an error of ours on."""
    try:
        raise SourceError("bars.csv: no column adj_close\nSet ADJUSTMENT")
    except SourceError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


@dg.asset(deps=[explained])
def first(context: dg.AssetExecutionContext) -> None:
    """Needs it."""


@dg.asset(deps=[first])
def second(context: dg.AssetExecutionContext) -> None:
    """Needs that."""


def test_one_problem_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    run(explained, first, second)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"\S+ ERROR    explained +failed: bars\.csv: no column adj_close", lines[0])
    assert lines[1] == "Set ADJUSTMENT"
    assert lines[2].endswith("Steps failed: ['explained']. Not executed: 2 steps that need their results.")


def test_a_refusal_shows_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    run(refused)
    assert "the bars cannot be true" in capsys.readouterr().err


def test_the_level_is_configurable(capsys: pytest.CaptureFixture[str]) -> None:
    run(bars, level="WARNING")
    assert len(capsys.readouterr().err.splitlines()) == 1
    run(bars, level="DEBUG")
    assert "not for people" in capsys.readouterr().err


def test_a_second_run_prints_no_line_twice(capsys: pytest.CaptureFixture[str]) -> None:
    run(bars)
    run(bars)
    assert capsys.readouterr().err.count("many words") == 2


class Keeping(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


def test_handlers_of_others_neither_get_the_lines_nor_keep_them_away(capsys: pytest.CaptureFixture[str]) -> None:
    above, beside = Keeping(), Keeping()
    logging.getLogger("financial_assets").addHandler(above)
    logging.getLogger("financial_assets.console").addHandler(beside)
    try:
        run(bars)
    finally:
        logging.getLogger("financial_assets").removeHandler(above)
    assert above.kept == []
    assert len(beside.kept) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "100")
    run(bars, model)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert re.search(r"WARNING +bars +a warning with \[markup\]", shown)
    assert "KeyError: 'the deep reason'" in shown
    assert max(map(len, shown.splitlines())) <= 100
