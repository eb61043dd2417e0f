"""Writes the dashboards: ``python -m financial_assets.monitoring.boards --output deploy/grafana/dashboards``."""

from __future__ import annotations

import argparse
from pathlib import Path

from financial_assets.monitoring.boards import BOARDS
from financial_assets.monitoring.boards.grafana import write_dashboards


def main() -> None:
    """Write a file per board."""
    parser = argparse.ArgumentParser(prog="python -m financial_assets.monitoring.boards", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder that gets one JSON file per board")
    for path in write_dashboards(BOARDS, parser.parse_args().output):
        print(path)


if __name__ == "__main__":
    main()
