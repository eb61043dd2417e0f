"""What comes back from a model, and the route that it came by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from financial_assets.serving.bar_rules import INPUT, OUTPUTS

__all__ = ["INPUT", "OUTPUTS", "ROUTE_HEADER", "Answer", "Route", "last_route", "make_answer", "parse_routes"]

ROUTE_HEADER = "x-seldon-route"
_ROUTES = re.compile(r":([^:\s]+?)_(\d+):")


class Route(NamedTuple):
    """Name of a Model and its version number in the gateway."""

    model: str
    number: int

    @property
    def sticky(self) -> str:
        """The header value that sends a request to this Model and no other."""
        return f":{self.model}_{self.number}:"


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes
    ----------
    probability_up
        float32 ``[n]``: calibrated probability that the next session's adjusted close is higher.
    return_quantiles
        float32 ``[n, 5]``: quantiles of that log return.
    route
        Name of the Model that answered, by the gateway; ``None`` if it names none.
    route_version
        Its version number in the gateway; ``None`` if it names none.
    model_name
        The name that the server gives itself.
    latency_s
        Seconds from bars to answer, in the client.
    request_id
        The ``x-request-id`` that was sent.
    """

    probability_up: np.ndarray
    return_quantiles: np.ndarray
    route: str | None
    route_version: int | None
    model_name: str
    latency_s: float
    request_id: str

    @property
    def sticky(self) -> str | None:
        """The value that sends a later request to the same arm."""
        return (
            None if self.route is None or self.route_version is None else Route(self.route, self.route_version).sticky
        )


def parse_routes(header: str) -> list[Route]:
    """Every ``:model_n:`` in a route header; the last one answered."""
    return [Route(name, int(number)) for name, number in _ROUTES.findall(header)]


def last_route(header: str | None) -> Route | None:
    """The route of the answer, ``None`` if the header is absent or names none."""
    routes = parse_routes(header or "")
    return routes[-1] if routes else None


def make_answer(
    outputs: Mapping[str, np.ndarray],
    rows: int,
    route: Route | None,
    model_name: str,
    latency_s: float,
    request_id: str,
) -> Answer:
    """An answer of ``rows`` rows.

    Raises
    ------
    ValueError
        The outputs do not have that many rows, or not the contract's shapes.
    KeyError
        An output is missing.
    """
    probability, quantiles = (outputs[output] for output in OUTPUTS)
    if probability.shape != (rows, 1) or quantiles.ndim != 2 or len(quantiles) != rows:
        raise ValueError(f"{rows} rows asked, but outputs of shape {probability.shape} and {quantiles.shape}")
    model, number = route or (None, None)
    return Answer(probability[:, 0], quantiles, model, number, model_name, latency_s, request_id)
