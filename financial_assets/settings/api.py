"""The HTTP interface for signals, risk and portfolios."""

from __future__ import annotations

from pydantic import Field

from financial_assets.settings.base import LocalPath, SettingsGroup


class ApiSettings(SettingsGroup):
    """Address, keys and limits of ``financial-assets api``."""

    api_host: str = Field(default="127.0.0.1", min_length=1)
    """Address that ``financial-assets api`` listens on. Any other than this machine's own needs ``API_KEYS_FILE``."""

    api_port: int = Field(default=8600, ge=0, le=65535)
    """Its TCP port; 0: a free one."""

    api_keys_file: LocalPath | None = None
    """File of API keys (hashes, scopes, limits), which ``financial-assets api-key`` writes; unset: no key is asked for,
    and only this machine is answered."""

    api_requests_per_minute: int = Field(default=600, ge=1, le=1_000_000)
    """Requests of one key in a minute, unless the key has a limit of its own; more are answered with 429."""

    api_burst: int = Field(default=60, ge=1, le=100_000)
    """Requests of one key that may come at once after a pause."""

    judge_most_outcomes: int = Field(default=50_000, ge=100, le=1_000_000)
    """Outcomes, of both arms together, that one request to the [judge](judge.md) may have, in 120 bytes each on
    average."""

    api_drain_seconds: float = Field(default=20.0, ge=0, le=600)
    """Longest wait for requests in flight when ``financial-assets api`` is told to end."""
