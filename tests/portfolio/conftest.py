"""Laws are checked without a deadline: a pause of a busy machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("without a deadline", parent=settings(), deadline=None)
settings.load_profile("without a deadline")
