"""What comes back from a model, and the route that it came by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from financial_assets.serving.bar_rules import EARLIER_OUTPUTS, INPUT, OUTPUTS

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
        float32 ``[n, 5]``: its 1, 5, 50, 95 and 99 % quantiles of that log return.
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
    return_quantiles_5d
        float32 ``[n, 5]``: the same quantiles of the log return over five sessions; ``None`` from a model of an
        earlier version, which has no such head.
    excess_return
        float32 ``[n]``: expected log return of the next session minus the market's, in units of the stock's causal
        volatility; the score that ranks a universe. ``None`` exactly where ``return_quantiles_5d`` is.
    """

    probability_up: np.ndarray
    return_quantiles: np.ndarray
    route: str | None
    route_version: int | None
    model_name: str
    latency_s: float
    request_id: str
    return_quantiles_5d: np.ndarray | None = None
    excess_return: np.ndarray | None = None

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        """The values as the model gave them, ``[n, width]`` by the name of the output."""
        score = None if self.excess_return is None else self.excess_return[:, None]
        shaped = (self.probability_up[:, None], self.return_quantiles, self.return_quantiles_5d, score)
        return {name: values for name, values in zip(OUTPUTS, shaped, strict=True) if values is not None}

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
    outputs: Sequence[tuple[str, np.ndarray]],
    rows: int,
    route: Route | None,
    model_name: str,
    latency_s: float,
    request_id: str,
) -> Answer:
    """An answer of ``rows`` rows.

    Parameters
    ----------
    outputs
        Name and float32 values, as they came. Names count, not the order.
    rows
        How many were asked.
    route, model_name, latency_s, request_id
        See :class:`Answer`.

    Raises
    ------
    ValueError
        The outputs are neither those of a model nor those of one of an earlier version, one comes twice, or they do not
        have that many rows and the contract's shapes.
    """
    named = dict(outputs)
    if len(named) < len(outputs):
        names = [name for name, _ in outputs]
        raise ValueError(f"output {max(names, key=names.count)} comes more than once")
    if set(named) not in (set(OUTPUTS), set(EARLIER_OUTPUTS)):
        raise ValueError(
            f"outputs {', '.join(sorted(named)) or 'none'}; expected {', '.join(OUTPUTS)}, or only "
            f"{' and '.join(EARLIER_OUTPUTS)} from a model of an earlier version"
        )
    probability, quantiles = (named[name] for name in EARLIER_OUTPUTS)
    further, score = (named.get(name) for name in OUTPUTS[len(EARLIER_OUTPUTS) :])
    shapes = {name: values.shape for name, values in named.items()}
    fits = probability.shape == (rows, 1) and quantiles.ndim == 2 and len(quantiles) == rows
    fits = fits and (further is None or further.shape == quantiles.shape)
    fits = fits and (score is None or score.shape == (rows, 1))
    if not fits:
        raise ValueError(f"{rows} rows asked, but outputs of shape {shapes}")
    model, number = route or (None, None)
    return Answer(
        probability[:, 0],
        quantiles,
        model,
        number,
        model_name,
        latency_s,
        request_id,
        return_quantiles_5d=further,
        excess_return=None if score is None else score[:, 0],
    )
