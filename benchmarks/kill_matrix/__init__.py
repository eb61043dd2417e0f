"""Kills every job at every commit, rename and request, and compares what the next run makes of it row by row."""
