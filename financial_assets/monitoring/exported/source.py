"""A part of the state that metrics are made from: absent until it is made, and never guessed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily, Metric

from financial_assets.errors import FinancialAssetsError, NotMadeYetError

_log = logging.getLogger(__name__)


@dataclass
class Source:
    """One part of the state.

    Parameters
    ----------
    name
        In the label ``source`` of ``financial_assets_source_up``.
    read
        Gives its metrics. Raises :class:`NotMadeYetError` where there is nothing yet, which is no fault: its metrics
        are absent, and the exporter's log says once why. Any other error of ours says that it cannot be read.
    """

    name: str
    read: Callable[[], Iterable[Metric]]
    _said: set[str] = field(default_factory=set)

    def collect(self, health: GaugeMetricFamily) -> Iterator[Metric]:
        """Its metrics, all of them or none; ``health`` is told whether it could be read."""
        try:
            families = list(self.read())
        except NotMadeYetError as absent:
            if str(absent) not in self._said:
                self._said.add(str(absent))
                _log.warning("no metrics of the %s yet: %s", self.name, absent)
            return
        except (FinancialAssetsError, OSError) as error:
            _log.error("the %s cannot be read: %s", self.name, error)
            health.add_metric([self.name], 0)
            return
        health.add_metric([self.name], 1)
        yield from families
