"""What a server has answered, counted without locks, and shown to Prometheus when it asks.

Knows counts by route and status and a histogram of seconds; it does not know what was answered.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

BOUNDS_S = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 0.1, 0.5, 1.0)
_BOUNDS_NS = tuple(round(bound * 1e9) for bound in BOUNDS_S)


class Tally:
    """Counts requests, entities and seconds; used by the event loop's thread alone."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, int]] = Counter()
        self._buckets = [0] * (len(BOUNDS_S) + 1)
        self._nanoseconds = 0
        self._entities = 0

    def add(self, route: str, status: int, nanoseconds: int, entities: int = 0) -> None:
        """One request has been answered."""
        self._answered[route, status] += 1
        self._buckets[bisect_left(_BOUNDS_NS, nanoseconds)] += 1
        self._nanoseconds += nanoseconds
        self._entities += entities

    def collect(self) -> "Iterator[Metric]":
        """The metrics, as prometheus-client wants them of a collector."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily(
            "rayplat_feature_requests_total", "requests to the feature server", labels=["route", "status"]
        )
        for (route, status), count in sorted(self._answered.items()):
            requests.add_metric([route, str(status)], count)
        yield requests
        yield CounterMetricFamily(
            "rayplat_feature_entities_total", "entities answered, one a view and request row",
            value=self._entities,
        )  # fmt: skip
        buckets, seen = [], 0
        for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], self._buckets, strict=True):
            seen += count
            buckets.append((bound, seen))
        seconds = HistogramMetricFamily(
            "rayplat_feature_request_seconds", "time from the whole request to its answer"
        )
        seconds.add_metric([], buckets, self._nanoseconds / 1e9)
        yield seconds

    def page(self) -> bytes:
        """The text that Prometheus scrapes: this process's registered metrics, and these."""
        from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

        mine = CollectorRegistry(auto_describe=False)
        mine.register(self)
        return generate_latest(REGISTRY) + generate_latest(mine)
