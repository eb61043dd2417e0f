"""Evidence that was computed before: what is kept of it on disk, and what plans of one pair share in one decision."""
