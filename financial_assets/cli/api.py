"""Commands ``api`` and ``api-key``: signals, risk, portfolios and the judge over HTTP."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from financial_assets.cli import examples, open_configured
from financial_assets.errors import SettingsError

_SCOPES = ("signals", "risk", "portfolio", "records", "judge", "verdicts")


@click.command(epilog=examples("api", "api --port 0", "api --host 0.0.0.0"))
@click.option("--host", help="Address to listen on; default: API_HOST. Other than 127.0.0.1 needs API_KEYS_FILE.")
@click.option("--port", type=click.IntRange(0, 65535), help="Default: API_PORT; 0: a free one.")
def api(host: str | None, port: int | None) -> None:
    """Answer signals, risk, portfolios and the judge over HTTP.

    Until Ctrl-C or SIGTERM; requests in flight are answered first.

    Signals are those that the job `daily` has stored; the page /docs shows what can be asked.
    """
    installation = open_configured()
    from financial_assets.api.app import create_app
    from financial_assets.api.logs import log_to_stderr
    from financial_assets.api.server import run_server

    log_to_stderr()
    settings = installation.settings
    run_server(
        lambda: create_app(installation, warm_up=True),
        settings,
        settings.api_host if host is None else host,
        settings.api_port if port is None else port,
        click.echo,
    )


@click.command(
    "api-key", epilog=examples("api-key pm-desk --scope signals --scope portfolio", "api-key risk --scope risk")
)
@click.argument("name")
@click.option("--scope", "scopes", type=click.Choice(_SCOPES), multiple=True, help="May be repeated. Default: all.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="A limit of its own.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), help="Last day on which it is taken (UTC).")
@click.option("--file", "path", type=click.Path(dir_okay=False, path_type=Path), help="Default: API_KEYS_FILE.")
def api_key(
    name: str, scopes: tuple[str, ...], requests_per_minute: int | None, expires: datetime | None, path: Path | None
) -> None:
    """Make a key for the API and keep its hash.

    The key is printed once; it replaces the one of that name.
    A running `financial-assets api` takes it within a second.
    """
    from pydantic import ValidationError

    from financial_assets.api.keys import SCOPES, Scope, add_key
    from financial_assets.settings import load_settings

    target = path or load_settings().api_keys_file
    if target is None:
        raise SettingsError("API_KEYS_FILE is not set; set it, or give --file")
    chosen: list[Scope] = [scope for scope in SCOPES if not scopes or scope in scopes]
    try:
        secret = add_key(
            target.expanduser(),
            name,
            chosen,
            requests_per_minute=requests_per_minute,
            expires=None if expires is None else expires.date(),
        )
    except ValidationError as error:
        raise SettingsError(
            f"{name!r} cannot be the name of a key: letters, digits, dots, hyphens, at most 64"
        ) from error
    click.echo(secret)
    click.echo(f"{name}: {', '.join(chosen)}; its hash is in {target}, the key itself nowhere", err=True)
