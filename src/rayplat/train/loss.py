"""The loss of one step, the same number on every worker.

Knows how it is exchanged while the gradients are computed, and read without waiting for them; it does not
know what is done with it (`step`, `run`).
"""

from typing import Any

import torch
from torch import Tensor


class SharedLoss:
    """The mean over all workers of each one's part; the exchange begins at once.

    Args:
        part: this worker's part, one number.
        world: how many workers there are.
    """

    def __init__(self, part: Tensor, world: int) -> None:
        self.value = part.detach().float().reshape(1)
        self.work: Any = None
        self._world = world
        self._host: tuple[Tensor, Any] | None = None
        if world > 1:
            self.value = self.value.clone()  # the exchange writes into it
            self.work = torch.distributed.all_reduce(self.value, async_op=True)
        if self.value.is_cuda:
            self._copy_early()

    def _copy_early(self) -> None:
        """Bring the number to the host behind the forward pass: reading it later would wait for the backward
        pass, which is about to be queued on the GPU."""
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            if self.work is not None:
                self.work.wait()
            host = torch.empty(1, pin_memory=True)
            host.copy_(self.value, non_blocking=True)
            copied: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(side)
        self.value.record_stream(side)
        self._host = host, copied

    def wait(self) -> None:
        """Wait until every worker's part is in.

        Raises:
            RuntimeError: a worker was lost meanwhile (torch's own).
        """
        if self.work is not None:
            self.work.wait()

    def mean(self) -> float:
        """The mean over all workers."""
        if self._host is not None:
            host, copied = self._host
            copied.synchronize()
            return float(host) / self._world
        self.wait()
        return float(self.value) / self._world
