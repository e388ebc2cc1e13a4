"""Where the time of predictions goes: what batches spend waiting, on features, on the model, on the log.

Knows the metrics and their names; it does not know how a stage is carried out. A batch is counted once,
however many requests it has: their number is a metric of its own.

What is counted with every batch are plain numbers, which become Prometheus' when somebody asks: its own
counters would take a tenth of what a small prediction takes. Each stage of a version is counted by one thread
at a time; where several versions answer for one endpoint at the same moment, a number may miss a batch.
"""

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

STAGES = ("queue", "features", "model", "log")
_MOST = 12  # batches of up to 2 ** 11 requests are told apart
_lock = threading.Lock()
_found: "dict[str, Stages]" = {}


class Stages:
    """What the batches of one endpoint have spent; made by `stages_of`."""

    __slots__ = ("endpoint", "features_s", "log_s", "model_s", "queue_s", "requests", "sizes")

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.queue_s = self.features_s = self.model_s = self.log_s = 0.0
        self.requests = 0
        self.sizes = [0] * (_MOST + 1)

    def began(self, waited_s: float, requests: int) -> None:
        """A batch of `requests` is begun whose first one has waited so long."""
        self.queue_s += waited_s
        self.requests += requests
        self.sizes[min((requests - 1).bit_length(), _MOST)] += 1

    def predicted(self, features_s: float, model_s: float) -> None:
        """Its features were had, and its model was evaluated."""
        self.features_s += features_s
        self.model_s += model_s

    def logged(self, log_s: float) -> None:
        """Its records are durable."""
        self.log_s += log_s


def stages_of(endpoint: str) -> Stages:
    """The stages of an endpoint in this process."""
    with _lock:
        if not _found:
            from prometheus_client import REGISTRY

            REGISTRY.register(_Collector())
        if endpoint not in _found:
            _found[endpoint] = Stages(endpoint)
        return _found[endpoint]


class _Collector:
    """Tells Prometheus."""

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        seconds = CounterMetricFamily(
            "rayplat_serve_stage_seconds", "time of batches by stage", labels=("endpoint", "stage")
        )
        sizes = HistogramMetricFamily(
            "rayplat_serve_batch_requests", "requests that were answered together", labels=("endpoint",)
        )
        for endpoint, one in list(_found.items()):
            for stage in STAGES:
                seconds.add_metric((endpoint, stage), getattr(one, f"{stage}_s"))
            count, buckets = 0, []
            for power, found in enumerate(one.sizes[:-1]):
                count += found
                buckets.append((str(float(2**power)), float(count)))
            buckets.append(("+Inf", float(count + one.sizes[-1])))
            sizes.add_metric((endpoint,), buckets, float(one.requests))
        yield seconds
        yield sizes
