"""Plans and decisions as text: canonical JSON, whose SHA-256 is a record's name."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from financial_assets.errors import ExperimentError


class CanonicalRecord(ABC):
    """Base of frozen dataclasses that are written once and read back equal, to the last bit of every double."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    kind: ClassVar[str]
    """What it is, for errors."""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: the record's name."""
        return digest_of(self.to_json())

    @abstractmethod
    def stored(self) -> dict[str, Any]:
        """The values that are written, by field."""

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no blanks; doubles read back equal."""
        return json.dumps(self.stored(), allow_nan=False, sort_keys=True, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return json.loads(self.to_json())

    @property
    def document(self) -> str:
        """The text of a file for people: indented JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The record that :meth:`to_json` wrote.

        Raises
        ------
        ExperimentError
            The text is not such a record.
        """
        try:
            return _adapter(cls).validate_json(text)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise ExperimentError(f"no {cls.kind}: {problems} in {text[:200]}") from error


def digest_of(document: str) -> str:
    """The digest of the record with this canonical JSON."""
    return hashlib.sha256(document.encode()).hexdigest()


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
