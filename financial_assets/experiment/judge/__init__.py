"""The judge for everybody: a registered plan and two series of outcomes give promote, rollback or hold, at any time."""
