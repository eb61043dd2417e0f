"""The dashboards: each panel's query, unit and meaning, once, for Grafana, the terminal and the manual."""

from financial_assets.monitoring.boards import ab_test, business, data, risk, serving
from financial_assets.monitoring.boards.panel import Board, Panel, Query, Row

__all__ = ["BOARDS", "Board", "Panel", "Query", "Row"]

BOARDS: tuple[Board, ...] = (ab_test.BOARD, serving.BOARD, risk.BOARD, data.BOARD, business.BOARD)
"""The five boards, in the order in which they are looked at."""
