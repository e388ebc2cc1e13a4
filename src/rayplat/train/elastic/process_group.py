"""The process group of one generation, and Accelerate set up for it.

Knows how torch.distributed and Accelerate are begun and ended again within one process; it does not know
who is in a generation or why.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import distributed
from torch._C._distributed_c10d import PrefixStore, TCPStore

from rayplat.core.project.training import Training
from rayplat.core.settings_environment import set_for_sdk
from rayplat.train.elastic.facts import Generation
from rayplat.train.layout import accelerator_for

_FORM_WITHIN = timedelta(seconds=10)
"""A member that is lost while a generation forms is waited for so long by the others."""
_SETTLE_S = 0.005
"""The group's threads drop what they have done, which needs the interpreter's lock, before it is held."""
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class OwnStore:
    """The key-value store that a member offers, so that any of them can be the meeting point.

    Args:
        host: the address to listen on; only this one, where torch alone would listen on all.
    """

    def __init__(self, host: str) -> None:
        self._socket = socket.create_server((host, 0), backlog=64)
        port = self._socket.getsockname()[1]
        self.address = f"{host}:{port}"
        self.store = TCPStore(
            host,
            port,
            is_master=True,
            wait_for_workers=False,
            timeout=_FORM_WITHIN,
            master_listen_fd=self._socket.detach(),
        )


@contextlib.contextmanager
def process_group(
    generation: Generation,
    rank: int,
    own: OwnStore,
    threads: int,
    timeout_s: float,
    *,
    make: Callable[[], Accelerator],
) -> Iterator[Accelerator]:
    """Accelerate over the members of a generation, for the body; all is taken down after it, however it ends.

    NCCL where there is a GPU, else gloo; a generation of one has no process group at all.

    Args:
        rank: this member's place in the generation.
        own: this member's store; that of rank 0 is the generation's.
        threads: of torch, for computing on the CPU.
        timeout_s: the longest that a collective may take.
        make: sets Accelerate up, once the group stands.

    Raises:
        RuntimeError: a member did not come, or was lost meanwhile (torch's own, told by `cause_of`).
    """
    world = len(generation.members)
    gpu = torch.cuda.is_available()
    _tell_accelerate(rank, world, threads, generation.store)
    try:
        if world > 1:
            store = own.store if rank == 0 else _store_at(generation.store)
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if gpu else "gloo",
                store=PrefixStore(f"generation-{generation.number}/", store),
                rank=rank,
                world_size=world,
                timeout=timedelta(seconds=timeout_s),
            )
        accelerator = make()
        try:
            yield accelerator
        finally:
            # The project may hold it for longer, and with a wrapped network the group's connections stay:
            # a member that waits for this one would never learn that it has left.
            accelerator._models.clear()
            accelerator._optimizers.clear()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        if distributed.is_initialized():
            _take_down(gpu)
        # Accelerate takes the whole machine for itself where nothing is said.
        torch.set_num_threads(threads)


def warm_up(own: OwnStore, member: str, threads: int) -> None:
    """Train one number for one step, alone: what torch and Accelerate set up at first use is there then.

    That takes a second or two, and a group that a member joins would stand still for as long.
    """
    alone = Generation(0, (member,), own.address)
    timeout = _FORM_WITHIN.total_seconds()

    def plain() -> Accelerator:
        return accelerator_for(Training())

    with process_group(alone, 0, own, threads, timeout, make=plain) as accelerator:
        distributed.init_process_group(
            "gloo", store=PrefixStore(f"warm-up-{member}/", own.store), rank=0, world_size=1
        )
        network = torch.nn.Linear(1, 1)
        wrapped = torch.nn.parallel.DistributedDataParallel(network)
        optimizer = accelerator.prepare(torch.optim.AdamW(network.parameters()))
        accelerator.backward(wrapped(torch.ones(1, 1)).sum())
        optimizer.step()


def _tell_accelerate(rank: int, world: int, threads: int, store: str) -> None:
    host, _, port = store.rpartition(":")
    environment = {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        # Ray shows each worker its own devices only: the first is always its own. One alone has no rank, or
        # Accelerate would meet itself in a process group of one.
        "LOCAL_RANK": "0" if world > 1 else "-1",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": str(threads),
    }
    if host in _LOOPBACK:
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    set_for_sdk(environment)
    torch.set_num_threads(threads)


def _store_at(address: str) -> Any:
    host, _, port = address.rpartition(":")
    return TCPStore(host, int(port), is_master=False, timeout=_FORM_WITHIN)


def _take_down(gpu: bool) -> None:
    time.sleep(_SETTLE_S)
    # With a peer gone NCCL would wait for it in a graceful end; aborting lets its kernels go.
    if gpu:
        with contextlib.suppress(RuntimeError):
            distributed.distributed_c10d._abort_process_group()
    if distributed.is_initialized():
        distributed.destroy_process_group()
