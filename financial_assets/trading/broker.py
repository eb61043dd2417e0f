"""What a broker must do for the desk: the protocol that the paper broker fulfils, and that a real one would.

``docs/orders.md`` says what a real one needs beyond it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

from financial_assets.trading.book import Fill, Position
from financial_assets.trading.order import Order

Acknowledgement = Literal["accepted", "known"]
"""``known``: an order of this key was sent before; it is not executed twice."""
OrderState = Literal["open", "filled", "expired", "cancelled"]
"""``expired``: its session is over, and it was not executed."""


class Broker(Protocol):
    """Takes orders, and says what became of them."""

    def submit(self, orders: Sequence[Order], *, reference: str, session: str) -> Mapping[str, Acknowledgement]:
        """Send day orders; an order whose key is known is not sent again.

        Parameters
        ----------
        orders
            Those of one file; none: only the reference is recorded.
        reference
            Digest of the file.
        session
            At whose close they were decided.

        Returns
        -------
        mapping
            Key -> acknowledgement.

        Raises
        ------
        HaltedError
            The kill switch is on and there is at least one order.
        OrderError
            An order is refused, or a key is known with other contents; none is accepted.
        """
        ...

    def cancel(self, keys: Collection[str], *, reason: str) -> tuple[str, ...]:
        """Withdraw open orders; the keys of those that were open and are no more. Works under a halt, too."""
        ...

    def order_states(self) -> Mapping[str, OrderState]:
        """Key -> what became of each order that was ever accepted."""
        ...

    def fills(self) -> tuple[Fill, ...]:
        """All executions, in order."""
        ...

    def positions(self) -> Mapping[str, Position]:
        """What is held, by ticker."""
        ...

    def cash(self) -> float:
        """Money, in the currency of the prices."""
        ...
