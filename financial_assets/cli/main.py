"""The command line: the group of all commands, and how errors and Ctrl-C end them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import click

from financial_assets.cli import examples
from financial_assets.cli.api import api, api_key
from financial_assets.cli.dashboard import dashboard
from financial_assets.cli.decisions.commands import approve, decide, halt, judge, resume
from financial_assets.cli.decisions.passport import model_risk, passport, signing_key
from financial_assets.cli.demonstrate import demonstrate
from financial_assets.cli.diagnosis import doctor
from financial_assets.cli.explain import explain
from financial_assets.cli.prices import prices
from financial_assets.cli.replay import replay
from financial_assets.cli.run import run
from financial_assets.cli.search import search
from financial_assets.cli.serving import exporter, serve, status, stop
from financial_assets.cli.signals import signal
from financial_assets.cli.walk_forward import walk_forward
from financial_assets.errors import FinancialAssetsError

_INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended


class _Commands(click.Group):
    """Prints errors raised on purpose, and what a disk refuses, as one message, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer needs them."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            click.echo(": ".join(["interrupted", *map(str, interrupt.args)]), err=True)
            ctx.exit(_INTERRUPTED)
        except FinancialAssetsError as error:
            raise click.ClickException(str(error)) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            message = _disk_message(error)
            if message is None or getattr(error, "errno", None) == errno.EPIPE:
                raise
            raise click.ClickException(message) from error


def _disk_message(error: Exception) -> str | None:
    from financial_assets.disk import explain
    from financial_assets.settings import load_settings

    try:
        home = load_settings().home
    except FinancialAssetsError:
        home = Path(os.environ.get("FINANCIAL_ASSETS_HOME") or ".financial_assets").absolute()
    return explain(error, home)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("run", "signal AAPL", "--home .mine signal JPM"),
)
@click.version_option(package_name="financial-assets", prog_name="financial-assets")
@click.option("--home", metavar="PATH", help="State folder; the same as the variable FINANCIAL_ASSETS_HOME.")
def main(home: str | None) -> None:
    """From raw prices to a served, A/B-tested forecasting model.

    Settings are environment variables; docs/settings.md lists them. The file .env of the current folder is read, too. A
    state folder remembers source, universe and seed, so that later commands need only its path.
    """
    if home is not None:
        os.environ["FINANCIAL_ASSETS_HOME"] = home  # where processes that a command starts look, too


_COMMANDS = (
    *(run, prices, status, signal, decide, approve, passport, model_risk, signing_key, halt, resume, replay),
    *(walk_forward, search, explain, demonstrate, judge, serve, stop, api, api_key, exporter, dashboard, doctor),
)
for _command in _COMMANDS:
    main.add_command(_command)
