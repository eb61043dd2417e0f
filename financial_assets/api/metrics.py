"""What the interface counts about itself, for Prometheus; the experiment's own metrics are the exporter's."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters of one application; a registry of their own, so that two applications can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "financial_assets_api_requests", "Requests answered", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "financial_assets_api_request_seconds",
            "Time from the first byte of a request to the last of its answer",
            ["route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge("financial_assets_api_in_flight", "Requests being answered", registry=self.registry)
        self.refused = Counter(
            "financial_assets_api_refused", "Requests refused, by reason", ["reason"], registry=self.registry
        )
        self.session = Gauge(
            "financial_assets_api_session_timestamp_seconds",
            "Session that is served, as the start of its day in UTC; 0 while no signals of the current one can be",
            registry=self.registry,
        )
        self.loads = Counter(
            "financial_assets_api_session_loads", "Sessions loaded from the state folder", registry=self.registry
        )

        self.judgements = Counter(
            "financial_assets_api_judgements", "Verdicts answered by the judge", ["action"], registry=self.registry
        )

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
