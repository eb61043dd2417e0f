"""The kill switch: the commands ``halt`` and ``resume``."""

from __future__ import annotations

import getpass

import click

from financial_assets.cli import examples


@click.command(epilog=examples("halt --reason 'prices look wrong'", "--home .mine halt"))
@click.option("--reason", default="", help="Why, for everybody who finds trading halted.")
@click.option("--by", default=getpass.getuser, help="Who halts; default: the user of this machine.")
def halt(reason: str, by: str) -> None:
    """Stop all orders and freeze champion and traffic, at once.

    Open orders of the paper book are cancelled, and no new ones are made. Nothing is promoted, rolled back or given
    other weights, and no new arm enters. Running daemons see it with the next thing they do; signals, predictions and
    reports go on, and say that trading is halted. `financial-assets resume` ends it.
    """
    from financial_assets.errors import ChainError, OrderError
    from financial_assets.halt import KillSwitch
    from financial_assets.settings import load_settings

    settings = load_settings()
    switch = KillSwitch.of(settings.home)
    # The switch first: whatever happens to the open orders, no more follow.
    halted = switch.halt(reason, by)
    click.echo(halted.sentence)
    from financial_assets.installation import TradingState, configure

    trading = configure(TradingState, settings)
    try:
        with trading.alone("cancelling open orders", timeout_s=10.0):
            broker = trading.paper
            cancelled = broker.cancel(broker.state().open_keys, reason=f"halted: {halted.reason}")
    except (ChainError, OrderError) as error:
        raise click.ClickException(
            f"trading is halted, but open orders of the paper book were not cancelled; none is executed as long as the "
            f"halt lasts: {error}"
        ) from error
    click.echo(f"open orders cancelled: {', '.join(cancelled) or 'there were none'}")


@click.command(epilog=examples("resume", "resume --by 'Jane Doe'"))
@click.option("--by", default=getpass.getuser, help="Who resumes; default: the user of this machine.")
def resume(by: str) -> None:
    """End a halt of orders and experiment.

    Cancelled orders stay cancelled. The next run of the job daily makes orders again, and the experiment moves with its
    next decision.
    """
    from financial_assets.halt import KillSwitch
    from financial_assets.settings import load_settings

    switch = KillSwitch.of(load_settings().home)
    ended = switch.resume(by)
    click.echo("there was no halt" if ended is None else f"resumed; it was {ended.sentence}")
