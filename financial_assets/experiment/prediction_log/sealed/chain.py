"""A hash chain in the prediction log's database: each record names the digest of the one before.

A record is canonical JSON, and its digest the SHA-256 of that text. It seals something by naming *its* digest: rows of
a session, a plan, an artefact, a decision, the weights that follow. Nobody can change, remove or exchange a record
without breaking the chain behind it. That its end was cut off shows only to who holds a later digest, or a signed
record.

The table is not part of the log's schema: a log without it is complete, and any release may open a log that has it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from financial_assets.chain import GENESIS, canonical
from financial_assets.errors import ChainError
from financial_assets.experiment.prediction_log import schema
from financial_assets.experiment.prediction_log.engine import ADVISORY_LOCK
from financial_assets.experiment.prediction_log.rows import utc_now
from financial_assets.signing import Signer

_metadata = sa.MetaData()
sealed = sa.Table(
    "sealed_records",
    _metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("signature", sa.Text),
    sa.Index("sealed_records_by_subject", "kind", "subject"),
)

BEGIN, PLAN, ARTEFACT, DECISION, APPROVAL, WEIGHTS = "begin", "plan", "artefact", "decision", "approval", "weights"
"""Kinds of records beside those of rows (:mod:`.rows`)."""
_SIGNED = (DECISION, WEIGHTS, APPROVAL)
"""Kinds that are signed where there is a key: what is decided, and what follows from it."""


@dataclass(frozen=True)
class SealedRecord:
    """One record of the chain.

    Attributes
    ----------
    number, kind, subject
        Its place from 1, what it seals, and which one of those.
    digest
        SHA-256 of ``document``.
    document
        Canonical JSON of ``values``, ``kind``, ``subject``, ``number``, ``previous`` and ``at``.
    signature
        Of ``document``, as the text of a ``.minisig`` file; ``None`` without a key.
    """

    number: int
    kind: str
    subject: str
    digest: str
    document: str
    signature: str | None

    @property
    def values(self) -> dict[str, Any]:
        """What it says."""
        return json.loads(self.document)


class SealedChain:
    """The chain within one writing transaction, which has it alone until it ends; made by :func:`open_chain`."""

    def __init__(self, connection: Connection, signer: Callable[[], Signer | None]) -> None:
        self.connection = connection
        self._signer = signer
        self._latest: dict[tuple[str, str | None], SealedRecord | None] = {}
        last = connection.execute(sa.select(sealed).order_by(sealed.c.number.desc()).limit(1)).first()
        self._last = None if last is None else _record(last)
        if self._last is not None and _digest(self._last.document) != self._last.digest:
            raise ChainError(
                f"record {self._last.number} of the table sealed_records in the prediction log was edited: nothing is "
                "added to a broken chain. Restore the log from a copy"
            )

    @property
    def is_empty(self) -> bool:
        """Whether it has no record."""
        return self._last is None

    def latest(self, kind: str, subject: str | None = None) -> SealedRecord | None:
        """The last record of a kind, about a subject or any."""
        if (kind, subject) not in self._latest:
            where = [sealed.c.kind == kind] + ([] if subject is None else [sealed.c.subject == subject])
            query = sa.select(sealed).where(*where).order_by(sealed.c.number.desc()).limit(1)
            row = self.connection.execute(query).first()
            self._latest[kind, subject] = None if row is None else _record(row)
        return self._latest[kind, subject]

    def all(self, kind: str) -> tuple[SealedRecord, ...]:
        """All records of a kind, in order."""
        query = sa.select(sealed).where(sealed.c.kind == kind).order_by(sealed.c.number)
        return tuple(map(_record, self.connection.execute(query)))

    def append(self, kind: str, subject: str, values: Mapping[str, Any]) -> SealedRecord:
        """Add a record, signed where there is a key and its kind is signed.

        Raises
        ------
        SettingsError
            The key cannot be used: nothing of the transaction counts.
        """
        number, previous = (1, GENESIS) if self._last is None else (self._last.number + 1, self._last.digest)
        signer = self._signer() if kind in _SIGNED else None
        said = {**values, "kind": kind, "subject": subject, "number": number, "previous": previous}
        said |= {"at": utc_now().isoformat(timespec="seconds")} | ({} if signer is None else {"signer": signer.public})
        document = canonical(said)
        signature = None if signer is None else signer.sign(document.encode(), f"{kind} {subject}, record {number}")
        record = SealedRecord(number, kind, subject, _digest(document), document, signature)
        self.connection.execute(
            sa.insert(sealed).values(
                number=number, kind=kind, subject=subject, digest=record.digest, document=document, signature=signature
            )
        )
        self._last = self._latest[kind, None] = self._latest[kind, subject] = record
        return record


def open_chain(connection: Connection, signer: Callable[[], Signer | None]) -> SealedChain:
    """The chain, alone until the transaction ends; its table and first record are made when missing.

    The first record counts what the log held before: of that, the chain can say what it was when it began, and nothing
    of the time before.

    Raises
    ------
    ChainError
        Its last record was edited.
    """
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK + 1})
    if not sa.inspect(connection).has_table(sealed.name):
        _metadata.create_all(connection)
    chain = SealedChain(connection, signer)
    if chain.is_empty:
        before = (schema.decisions, schema.plans, schema.question_plans, schema.epochs, schema.direct, schema.routed)
        count = {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in before
        }
        chain.append(BEGIN, "", {"before": count})
    return chain


def read_chain(connection: Connection, *, until: int | None = None) -> tuple[SealedRecord, ...]:
    """The records up to a number; empty where nothing was ever sealed."""
    return _select(connection, *([] if until is None else [sealed.c.number <= until]))


def find_seals(connection: Connection, kind: str, subjects: Sequence[str]) -> tuple[SealedRecord, ...]:
    """The records of a kind about some subjects."""
    return _select(connection, sealed.c.kind == kind, sealed.c.subject.in_(subjects)) if subjects else ()


def _select(connection: Connection, *where: sa.ColumnElement[bool]) -> tuple[SealedRecord, ...]:
    if not sa.inspect(connection).has_table(sealed.name):
        return ()
    return tuple(map(_record, connection.execute(sa.select(sealed).where(*where).order_by(sealed.c.number))))


def _record(row: sa.Row[Any]) -> SealedRecord:
    return SealedRecord(row.number, row.kind, row.subject, row.digest, row.document, row.signature)


def _digest(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()
