"""The statistics of decisions: tests and intervals that stay valid however often one looks, and planned looks."""
