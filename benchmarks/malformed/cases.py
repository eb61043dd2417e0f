"""Malformed requests of every kind, drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from malformed.case import Case
from malformed.grpc_cases import grpc_makers
from malformed.rest_cases import address_makers, body_makers, transfer_makers

__all__ = ["Case", "generate"]


def generate(seed: int, count: int, *, model: str, experiment: str) -> Iterator[Case]:
    """``count`` malformed requests to ``model``; every kind comes before any comes again."""
    rng = np.random.default_rng(seed)
    makers = [*body_makers(model), *transfer_makers(model), *address_makers(model, experiment), *grpc_makers(model)]
    order = [number % len(makers) for number in range(count)]
    for number in rng.permutation(order):
        kind, make = makers[number]
        case = make(rng)
        protocol = "gRPC" if case.grpc_method else "REST"
        yield replace(case, kind=f"{protocol}: {kind}")
