"""Files of orders: one JSON document and one CSV table per session and revision, each naming the one before by digest.

The digest is that of the JSON file's bytes, so that ``sha256sum`` checks the chain. A file is never written again: what
prices, holdings or the kill switch have changed since is a new revision behind the last file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict

from financial_assets.atomic import atomic_write_bytes, atomic_write_text
from financial_assets.chain import GENESIS
from financial_assets.disk import disk_errors
from financial_assets.errors import ChainError, OrderError
from financial_assets.trading.order import Order, TradingCosts, validated

Status = Literal["orders", "nothing to trade", "halted", "refused"]
"""``halted``: the kill switch was on. ``refused``: no book could be built; the remark says why."""

CSV_COLUMNS = (
    *("key", "session", "target_session", "ticker", "side", "quantity", "limit", "last_close", "weight_before"),
    *("weight_after", "expected_cost", "model", "version", "decision", "reason"),
)


@dataclass(frozen=True)
class Target:
    """Where one name is to be brought, and everything needed to size and judge that trade again.

    Attributes
    ----------
    ticker
        Symbol.
    weight, current
        Aimed at and held, as signed shares of the capital.
    close, factor
        Last close, and adjusted close over close.
    buy_limit, sell_limit
        ``None`` without limits.
    costs
        Of its trades.
    """

    ticker: str
    weight: float
    current: float
    close: float
    factor: float
    buy_limit: float | None
    sell_limit: float | None
    costs: TradingCosts


@dataclass(frozen=True)
class OrderDocument:
    """The orders of one session, and what they come from.

    Attributes
    ----------
    session, target_session
        At whose close they were decided, and for which they are good; ISO 8601.
    status, remark
        Whether there are any, and if not, why.
    model, version, decision
        Behind the signals; the decision is the first 12 characters of the latest record about that model, empty before
        there is one.
    holdings
        ``paper book``, or the file that was read, with its digest.
    capital
        What weights are shares of.
    construction
        Settings of the book by name.
    limit_rule
        In words.
    targets
        Sorted by ticker.
    orders
        Largest value first.
    left
        Ticker -> why it is held but was not traded.
    sequence, revision, previous, revises
        Place among all files and among those of the session, from 1; digest of the file before, and of the revision
        that this one replaces, empty for a first one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    session: str
    target_session: str
    status: Status
    remark: str
    model: str
    version: int
    decision: str
    holdings: str
    capital: float
    construction: Mapping[str, Any]
    limit_rule: str
    targets: tuple[Target, ...] = ()
    orders: tuple[Order, ...] = ()
    left: Mapping[str, str] | None = None
    sequence: int = 0
    revision: int = 0
    previous: str = GENESIS
    revises: str = ""

    @property
    def name(self) -> str:
        """Of its files, without the ending."""
        return self.session if self.revision == 1 else f"{self.session}-r{self.revision}"

    @property
    def content(self) -> dict[str, Any]:
        """What it says, whatever its place in the chain."""
        chained = ("sequence", "revision", "previous", "revises")
        values = {name: value for name, value in self.to_dict().items() if name not in chained}
        return {**values, "orders": [{**order, "key": ""} for order in values["orders"]]}

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return json.loads(json.dumps({**asdict(self), "left": dict(self.left or {})}, allow_nan=False))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` gave.

        Raises
        ------
        OrderError
            The values are no document of orders.
        """
        return validated(cls, values, "a document of orders")

    def weights_after(self) -> dict[str, float]:
        """Ticker -> weight once all orders are executed at the last close."""
        moved = {order.ticker: order.sign * order.quantity * order.close / self.capital for order in self.orders}
        return {each.ticker: each.current + moved.get(each.ticker, 0.0) for each in self.targets}


@dataclass(frozen=True)
class StoredOrders:
    """A document in the chain, its digest and its file."""

    document: OrderDocument
    digest: str
    path: Path


@dataclass(frozen=True)
class OrderFiles:
    """The files in ``folder``; a missing folder holds none."""

    folder: Path

    def read(self, anchored: Sequence[str] = ()) -> tuple[StoredOrders, ...]:
        """All of them, in the order in which they were written, once the chain is known to be whole.

        Parameters
        ----------
        anchored
            Digests of files that are known elsewhere to have been written: one that is gone has been removed.

        Raises
        ------
        ChainError
            A file cannot be read, was edited, removed, copied or put in; names it.
        """
        found = sorted((self._parsed(path) for path in self._paths()), key=lambda one: one.document.sequence)
        previous, last_of = GENESIS, dict[str, StoredOrders]()
        for place, one in enumerate(found, 1):
            document = one.document
            before = last_of.get(document.session)
            wanted = (1, "") if before is None else (before.document.revision + 1, before.digest)
            if document.sequence != place or document.previous != previous:
                raise ChainError(
                    f"{one.path} is file {document.sequence} of the chain and names {document.previous[:12]} as the "
                    f"one before it; here it would be file {place} after {previous[:12]}: a file was edited, removed "
                    "or put in. Restore the folder from a copy"
                )
            if (document.revision, document.revises) != wanted or one.path.stem != document.name:
                raise ChainError(
                    f"{one.path} says it is revision {document.revision} of {document.session}, which does not follow "
                    "from the files before it. Restore the folder from a copy"
                )
            previous = one.digest
            last_of[document.session] = one
        present = {one.digest for one in found}
        lost = [digest for digest in anchored if digest not in present]
        if lost:
            raise ChainError(
                f"{len(lost)} files of orders are missing from {self.folder} or were edited, the first of them "
                f"{lost[0][:12]} (SHA-256), by the record of the broker. Restore the folder from a copy"
            )
        return tuple(found)

    def check_tables(self, stored: Sequence[StoredOrders]) -> None:
        """Make sure that each CSV file says what its document says.

        Raises
        ------
        ChainError
            One is missing or differs; names it.
        """
        for one in stored:
            path = one.path.with_suffix(".csv")
            with disk_errors(path, "read"):
                text = path.read_bytes().decode("utf-8", errors="replace") if path.is_file() else None
            if text != csv_of(one.document):
                fault = "is missing" if text is None else "does not say what the file of the same name in JSON says"
                raise ChainError(f"{path} {fault}; remove it, and the asset `orders` writes it again")

    def add(self, draft: OrderDocument, *, again: bool = False) -> tuple[StoredOrders, bool]:
        """The stored document that says what ``draft`` says, and whether it was written just now.

        A session's last revision that says the same stays as it is, byte by byte. The caller holds the lock.

        Parameters
        ----------
        draft
            Without a place in the chain.
        again
            Write a revision even so: the orders of the last one were cancelled.

        Raises
        ------
        ChainError
            The chain is broken: nothing is added to it.
        """
        stored = self.read()
        of_session = [one for one in stored if one.document.session == draft.session]
        if of_session and of_session[-1].document.content == draft.content and not again:
            self._write_table(of_session[-1])
            return of_session[-1], False
        document = replace(
            draft,
            sequence=len(stored) + 1,
            revision=len(of_session) + 1,
            previous=stored[-1].digest if stored else GENESIS,
            revises=of_session[-1].digest if of_session else "",
        )
        document = replace(
            document,
            orders=tuple(replace(order, key=order_key(document, order.ticker)) for order in document.orders),
        )
        values = document.to_dict()
        document = OrderDocument.from_dict(values)  # as everybody else reads it
        data = (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
        path = self.folder / f"{document.name}.json"
        atomic_write_bytes(path, data)
        one = StoredOrders(document, hashlib.sha256(data).hexdigest(), path)
        self._write_table(one)
        return one, True

    def mend_tables(self, stored: Sequence[StoredOrders]) -> None:
        """Write the CSV files that a writer that died did not get to."""
        for one in stored:
            self._write_table(one)

    def _write_table(self, one: StoredOrders) -> None:
        path = one.path.with_suffix(".csv")
        if not path.is_file():
            atomic_write_text(path, csv_of(one.document))

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if not path.name.startswith("."))

    def _parsed(self, path: Path) -> StoredOrders:
        with disk_errors(path, "read"):
            data = path.read_bytes()
        try:
            document = OrderDocument.from_dict(json.loads(data))
        except (ValueError, OrderError) as error:
            raise ChainError(f"{path} is damaged ({error}). Restore the folder from a copy") from error
        return StoredOrders(document, hashlib.sha256(data).hexdigest(), path)


def order_key(document: OrderDocument, ticker: str) -> str:
    """The key of an order: session, revision and ticker name it for ever."""
    return f"{document.session}-r{document.revision}-{ticker}"


def csv_of(document: OrderDocument) -> str:
    """The table of a document: a line per order, the header alone without any."""
    after = document.weights_after()
    before = {each.ticker: each.current for each in document.targets}
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for order in document.orders:
        writer.writerow(
            {
                "key": order.key,
                "session": document.session,
                "target_session": document.target_session,
                "ticker": order.ticker,
                "side": order.side,
                "quantity": f"{order.quantity:.0f}",
                "limit": "" if order.limit is None else repr(order.limit),
                "last_close": repr(order.close),
                "weight_before": repr(before[order.ticker]),
                "weight_after": repr(after[order.ticker]),
                "expected_cost": f"{sum(order.costs.of(order.quantity * order.close).values()):.2f}",
                "model": document.model,
                "version": document.version,
                "decision": document.decision,
                "reason": order.reason,
            }
        )
    return stream.getvalue()
