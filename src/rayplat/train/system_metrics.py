"""What a worker's machine does while it trains: CPU, memory, GPU where there is one.

Knows what is measured and under which names MLflow shows it; it does not know who hears of it.
"""

import threading
from collections.abc import Callable, Mapping

EVERY_S = 5.0


def sample() -> dict[str, float]:
    """The values of now. The CPU's is since the last call in this process."""
    import psutil

    memory, own = psutil.virtual_memory(), psutil.Process().memory_info().rss
    values = {
        "system/cpu_utilization_percentage": float(psutil.cpu_percent()),
        "system/system_memory_usage_percentage": float(memory.percent),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/worker_memory_usage_megabytes": own / 1e6,
    }
    return values | _gpu()


def _gpu() -> dict[str, float]:
    import torch

    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    values = {
        "system/gpu_0_memory_usage_percentage": 100.0 * (total - free) / total,
        "system/gpu_0_memory_usage_megabytes": (total - free) / 1e6,
    }
    try:
        values["system/gpu_0_utilization_percentage"] = float(torch.cuda.utilization())
    except (RuntimeError, ImportError):  # its library (NVML) is not there
        return values
    return values


class SystemMetrics:
    """Tells samples every few seconds, from a thread of its own, until it is closed.

    Args:
        tell: gets each sample.
        every_s: between two samples.
    """

    def __init__(self, tell: Callable[[Mapping[str, float]], None], every_s: float = EVERY_S) -> None:
        self._tell, self._every_s = tell, every_s
        self._closed = threading.Event()
        sample()  # the first value of the CPU means nothing
        threading.Thread(target=self._run, name="system-metrics", daemon=True).start()

    def close(self) -> None:
        """No more samples."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._every_s):
            self._tell(sample())
