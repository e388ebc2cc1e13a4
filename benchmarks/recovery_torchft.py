"""The third peer of the recovery benchmark: the same steps under torchft, one process a replica group.

Run by benchmarks/recovery.py: `recovery_torchft.py groups FOLDER` keeps two replica groups and the lighthouse
at which they meet; `recovery_torchft.py group FOLDER RANK LIGHTHOUSE` is one of them. The lighthouse looks
every 20 ms and gives a silent group up after 0.5 s (by default every 100 ms, and 5 s).
"""

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from harness import PEERS

FOLDER = PEERS / "torchft"
# It needs the very torch that is here: so it is put beside it, with what it lacks of OpenTelemetry.
REQUIREMENTS = (
    "torchft==0.2.0",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
    "opentelemetry-exporter-otlp-proto-common==1.45.2",
    "opentelemetry-exporter-otlp-common==0.66b2",
    "opentelemetry-exporter-http-transport==0.66b2",
)
COMMAND = [str(Path(__file__)), "groups"]
STEP_S = 0.05


def installed() -> bool:
    """Whether torchft can be had; it is installed when it is first needed."""
    if FOLDER.exists():
        return True
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER)]
    return subprocess.run([*pip, *REQUIREMENTS], check=False).returncode == 0


def groups(folder: Path) -> None:
    """Keep two groups running."""
    from torchft.coordination import LighthouseServer

    lighthouse = LighthouseServer(
        bind="127.0.0.1:0", min_replicas=1, join_timeout_ms=200, quorum_tick_ms=20, heartbeat_timeout_ms=500
    )
    command = [sys.executable, __file__, "group", str(folder)]
    running: dict[int, Any] = {}
    while True:
        for rank in (0, 1):
            if rank not in running or running[rank].poll() is not None:
                running[rank] = subprocess.Popen([*command, str(rank), lighthouse.address()])
        time.sleep(0.1)


def group(folder: Path, rank: int, lighthouse: str) -> None:
    """Train as one replica group; the state comes from a group that lives."""
    import torch
    from torch.distributed import TCPStore
    from torchft import DistributedDataParallel, Manager, Optimizer, ProcessGroupGloo

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    inner = torch.optim.AdamW(network.parameters())

    def state() -> dict[str, Any]:
        return {"network": network.state_dict(), "optimizer": inner.state_dict()}

    def take(saved: dict[str, Any]) -> None:
        network.load_state_dict(saved["network"])
        inner.load_state_dict(saved["optimizer"])

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=timedelta(seconds=5)),
        load_state_dict=take,
        state_dict=state,
        min_replica_size=1,
        timeout=timedelta(seconds=5),
        replica_id=f"group_{rank}_",
        rank=0,
        world_size=1,
        store_addr="127.0.0.1",
        store_port=store.port,
        lighthouse_addr=lighthouse,
        hostname="127.0.0.1",
    )
    model, optimizer = DistributedDataParallel(manager, network), Optimizer(manager, inner)
    file = (folder / f"steps-{os.getpid()}.txt").open("a", buffering=1)
    while True:
        begun, before = time.perf_counter(), manager.current_step()
        optimizer.zero_grad()
        model(torch.randn(32, 2)).square().mean().backward()
        optimizer.step()
        step = manager.current_step()
        if step > before:
            world = manager.num_participants()
            file.write(f"{time.time()} {step} {rank} {world} {os.getpid()}\n")
        time.sleep(max(0.0, STEP_S - (time.perf_counter() - begun)))


if __name__ == "__main__":
    if sys.argv[1] == "groups":
        groups(Path(sys.argv[2]))
    else:
        group(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
