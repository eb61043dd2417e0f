"""The desk: kill switch, files of orders, paper book and the file of holdings."""

from __future__ import annotations

from pathlib import Path

from financial_assets.chain import HashChain
from financial_assets.doctor.walk import Checked, LayerError
from financial_assets.errors import ChainError, HoldingsError
from financial_assets.halt import LIFT
from financial_assets.installation import Installation
from financial_assets.trading.holdings import read_holdings

_RESTORE = (
    "restore the file that is named from a copy of the state folder; until then no orders are made. Nothing repairs a "
    "record that was edited"
)


def check_trading(installation: Installation) -> Checked[None]:
    """Hash chains are whole, the paper book's arithmetic holds, holdings can be read; a halt deserves a look."""
    trading = installation.trading
    try:
        HashChain(trading.switch.path).read()
        state = trading.paper.state()
        stored = trading.files.read(state.references)
        trading.files.check_tables(stored)
    except ChainError as error:
        halted = trading.switch.halt_in_force()
        raise LayerError(" ".join(filter(None, (str(error), halted and halted.sentence))), _RESTORE) from error
    if trading.holdings is not None:
        try:
            read_holdings(
                Path(trading.holdings),
                installation.market.tickers,
                short_allowed=trading.orders_mode != "long_only",
            )
        except HoldingsError as error:
            raise LayerError(str(error), "correct the file, or unset HOLDINGS to trade from the paper book") from error
    halted = trading.switch.halt_in_force()
    detail = (
        f"{len(stored)} files of orders and {len(state.sessions)} sessions of the paper book, chains whole"
        if state.opened
        else "no orders were made yet"
    )
    if halted is not None:
        return Checked(None, f"{halted.sentence} {detail}", f"{LIFT}, once the reason is gone")
    return Checked(None, detail)
