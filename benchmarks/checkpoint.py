"""How long a step waits for a checkpoint of 524 MB, and how long until it is durable and until it is back.

Run: .venv/bin/python benchmarks/checkpoint.py [--json] [--quick]

The state is that of a network under AdamW (parameters and two moments). `stall_ms` is how long the call holds
training up: rayplat copies into a reused buffer and writes in a thread; torch.save writes before it returns;
torch.distributed.checkpoint's async_save copies into memory of its own, as it is and with its cached, shared
staging buffer. The limit is one memcpy of as many bytes between touched buffers, with one thread. Peers do
not sync and keep no digests; rayplat does both. `checkpoint_stall_share` is how much longer steps of 50 ms
take while a checkpoint is saved every second, with the background's work on the same two cores.
"""

import contextlib
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from harness import Claim, interleave, main

BYTES = 524_000_000
TENSORS = 24
STEP_S, STEPS = 0.05, 60
SAVE_EVERY = 20


def state_of(length: int) -> dict[str, Any]:
    """Parameters and both moments of AdamW, as many bytes together."""
    each = length // 4 // 3 // TENSORS
    names = [f"layers.{n}.weight" for n in range(TENSORS)]
    return {
        "network": {name: torch.randn(each) for name in names},
        "optimizer": {
            n: {"exp_avg": torch.randn(each), "exp_avg_sq": torch.rand(each)} for n in range(TENSORS)
        },
    }


def timed(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


class Ours:
    """rayplat: in a thread, synced, with digests."""

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        from rayplat.train.checkpoints.steps import StepCheckpoints

        self.checkpoints = StepCheckpoints(f"file://{folder}/ours")
        self._state, self._step = state, 0
        self.durable: list[float] = []

    def stall(self) -> float:
        """Seconds that a save holds its caller up."""
        handle = self.save()
        handle.wait()
        self.durable.append(handle.durable_s or 0.0)
        return handle.stall_s

    def save(self) -> Any:
        self._step += 1
        return self.checkpoints.save_async(self._step, self._state)

    def load(self) -> float:
        """Seconds to find, read and verify the newest."""
        return timed(self.checkpoints.latest)


class Peers:
    """torch.save, and torch.distributed.checkpoint's async_save in two ways."""

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        self._folder, self._state = folder, state
        self._step = 0
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=False,
                use_shared_memory=True,
                use_async_staging=False,
                use_non_blocking_copy=False,
            )
        )
        self.durable: dict[str, list[float]] = {"torch_save_synced": [], "dcp_async": []}

    def torch_save(self) -> float:
        return timed(lambda: torch.save(self._state, self._folder / "state.pt"))

    def torch_save_synced(self) -> float:
        """Until it is on the disk: what `durable` means."""
        import os

        def save() -> None:
            with (self._folder / "synced.pt").open("wb") as file:
                torch.save(self._state, file)
                file.flush()
                os.fsync(file.fileno())

        return timed(save)

    def torch_load(self) -> float:
        return timed(lambda: torch.load(self._folder / "state.pt", weights_only=True))

    def dcp_async(self) -> float:
        return self._dcp({})

    def dcp_async_cached(self) -> float:
        return self._dcp({"async_stager": self._stager})

    def _dcp(self, options: dict[str, Any]) -> float:
        from torch.distributed.checkpoint import async_save

        self._step += 1
        folder = self._folder / f"dcp-{self._step}"
        begin = time.perf_counter()
        future: Any = async_save(self._state, checkpoint_id=str(folder), no_dist=True, **options)
        stall = time.perf_counter() - begin
        getattr(future, "upload_completion", future).result()
        if not options:
            self.durable["dcp_async"].append(time.perf_counter() - begin)
        shutil.rmtree(folder)
        return stall


def memcpy(state: dict[str, Any]) -> float:
    """Seconds to copy the state's bytes once, one thread, into memory that is there."""
    tensors = [*state["network"].values(), *(t for one in state["optimizer"].values() for t in one.values())]
    if not _TARGET:
        _TARGET.extend(torch.zeros_like(tensor) for tensor in tensors)
    return timed(lambda: [to.copy_(tensor) for to, tensor in zip(_TARGET, tensors, strict=True)])


_TARGET: list[torch.Tensor] = []


def steps(save: Callable[[], Any] | None) -> float:
    """Seconds of some steps of 50 ms of one core's work, with a checkpoint every second."""
    x = torch.randn(256, 256)
    rounds = round(20 * STEP_S / timed(lambda: work(x, 20)))
    begin = time.perf_counter()
    for step in range(STEPS):
        work(x, rounds)
        if save is not None and step % SAVE_EVERY == SAVE_EVERY // 2:
            save()
    return time.perf_counter() - begin


def work(x: torch.Tensor, rounds: int) -> None:
    for _ in range(rounds):
        torch.mm(x, x)


@contextlib.contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rayplat-checkpoint-") as made:
        yield Path(made)


def measure(quick: bool) -> list[Claim]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    runs = 3 if quick else 9
    state = state_of(BYTES)
    with place() as folder:
        ours, peers = Ours(folder, state), Peers(folder, state)
        found = interleave(
            {
                "ours": ours.stall,
                "torch_save": peers.torch_save,
                "dcp_async": peers.dcp_async,
                "dcp_async_cached": peers.dcp_async_cached,
                "memcpy": lambda: memcpy(state),
                "torch_save_synced": peers.torch_save_synced,
            },
            runs,
        )
        loads = interleave({"ours": ours.load, "torch_load": peers.torch_load}, max(2, runs // 3))
        shares = share_of_steps(ours, peers, 1 if quick else 3)
        ours.checkpoints.close()

    def ms(name: str) -> list[float]:
        return [1000 * seconds for seconds in found[name]]

    return [
        Claim(
            "stall_ms",
            "ms",
            ms("ours"),
            {name: ms(name) for name in ("torch_save", "dcp_async", "dcp_async_cached")},
            limit=median(ms("memcpy")),
            note="524 MB; limit: memcpy, one thread",
        ),
        Claim(
            "checkpoint_stall_share",
            "share",
            shares["ours"],
            {"torch_save": shares["torch_save"]},
            note="steps of 50 ms, 524 MB every second",
        ),
        Claim(
            "checkpoint_durable_s",
            "s",
            ours.durable[1:],
            {"torch_save_synced": found["torch_save_synced"], "dcp_async": peers.durable["dcp_async"][1:]},
            note="rayplat with digests, synced; dcp_async not synced",
        ),
        Claim(
            "checkpoint_load_s",
            "s",
            loads["ours"],
            {"torch_load": loads["torch_load"]},
            note="rayplat verified; torch.load not",
        ),
    ]


def share_of_steps(ours: Ours, peers: Peers, runs: int) -> dict[str, list[float]]:
    """How much longer steps take with checkpoints, as a share."""
    found = interleave(
        {
            "alone": lambda: steps(None),
            "ours": lambda: steps(ours.save),
            "torch_save": lambda: steps(peers.torch_save),
        },
        runs,
    )
    ours.checkpoints.wait()
    alone = median(found["alone"])
    return {name: [max(0.0, one / alone - 1) for one in found[name]] for name in ("ours", "torch_save")}


if __name__ == "__main__":
    main(measure, __doc__ or "")
