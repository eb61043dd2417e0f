"""What a promotion is worth to you; there are no assumptions in place of missing figures."""

from __future__ import annotations

from pydantic import Field

from financial_assets.settings.base import SettingsGroup


class BusinessSettings(SettingsGroup):
    """Figures of the business view; money is in a currency of your choice."""

    business_aum: float | None = Field(default=None, gt=0, le=1e15, allow_inf_nan=False)
    """Assets that would trade by the promoted model, in money; unset: the report shows returns only."""

    business_horizon_sessions: int = Field(default=252, ge=1, le=5040)
    """Sessions over which a promotion is to pay."""

    business_latency_cost_per_ms: float = Field(default=0.0, ge=0, le=1e12, allow_inf_nan=False)
    """Money that each millisecond of slower mean response costs in a session; needs BUSINESS_AUM to be shown."""

    business_implementation_cost: float = Field(default=0.0, ge=0, le=1e15, allow_inf_nan=False)
    """Money that a promotion costs once; needs BUSINESS_AUM to be shown."""
