"""Asset checks: run with their asset, or by themselves on what is stored of it."""
