"""The peers of the recovery benchmark: the same steps under torchrun and under Ray Train.

Run by benchmarks/recovery.py: `-m torch.distributed.run … recovery_peers.py torchrun FOLDER`, or
`recovery_peers.py ray FOLDER`.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

EVERY = 10
STEP_S = 0.05
SCRIPT = str(Path(__file__))
COMMANDS = {
    "torchrun": [
        *("-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1000"),
        *("--monitor-interval=0.1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", SCRIPT, "torchrun"),
    ],
    "ray_train": [SCRIPT, "ray"],
}


def train(folder: Path, rank: int, world: int) -> None:
    """DDP over the process group that is there, with a checkpoint every `EVERY` steps."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    model = DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters())
    saved, step = folder / "checkpoint.pt", 0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    file = (folder / f"steps-{os.getpid()}.txt").open("a", buffering=1)
    while True:
        begun = time.perf_counter()
        loss = model(torch.randn(32, 2)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        file.write(f"{time.time()} {step} {rank} {world} {os.getpid()}\n")
        if rank == 0 and step % EVERY == 0:
            draft = saved.with_suffix(".draft")
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(state, draft)
            draft.replace(saved)
        time.sleep(max(0.0, STEP_S - (time.perf_counter() - begun)))


def by_torchrun(folder: Path) -> None:
    from torch import distributed

    distributed.init_process_group("gloo")
    train(folder, distributed.get_rank(), distributed.get_world_size())


def by_ray(folder: Path) -> None:
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.05"
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    def work(config: dict[str, Any]) -> None:
        context = ray.train.get_context()
        sys.path.insert(0, str(Path(SCRIPT).parent))
        import recovery_peers

        recovery_peers.train(Path(config["folder"]), context.get_world_rank(), context.get_world_size())

    ray.init(num_cpus=4, include_dashboard=False, _temp_dir=str(folder / "ray")[:60], log_to_driver=False)
    TorchTrainer(
        work,
        train_loop_config={"folder": str(folder)},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            storage_path=str(folder / "store"), failure_config=FailureConfig(max_failures=-1)
        ),
    ).fit()


if __name__ == "__main__":
    {"torchrun": by_torchrun, "ray": by_ray}[sys.argv[1]](Path(sys.argv[2]))
