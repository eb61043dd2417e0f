"""Writes docs/metrics.md from what a running exporter exposes: its metrics with their types and help texts.

``python docs/write_metrics.py http://127.0.0.1:9109/metrics > docs/metrics.md``, of the exporter of a finished run:
what is not made yet is not exposed. A test of the full pipeline compares.
"""

from __future__ import annotations

import sys

import httpx
from prometheus_client.parser import text_string_to_metric_families

HEAD = """# Metrics of the exporter

Written by `docs/write_metrics.py` from what `financial-assets exporter` exposes; [Dashboards](dashboards.md) says what
each group is read from. Names that end in `_timestamp_seconds` are instants in seconds since 1970 (UTC), in `_ratio`
shares of 1.

| metric | type | meaning |
| --- | --- | --- |
"""


def metrics_page(exposition: str) -> str:
    """The page, from Prometheus' text format."""
    families = sorted(text_string_to_metric_families(exposition), key=lambda family: family.name)
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | {family.documentation} |"
        for family in families
        # Beside each counter and histogram the client library exposes when it began.
        if not family.name.endswith("_created")
    ]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(metrics_page(httpx.get(sys.argv[1], timeout=60).text), end="")
