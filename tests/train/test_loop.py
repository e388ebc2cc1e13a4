"""The loop without Ray: real gloo processes, each a worker."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from rayplat.core.errors import UserError
from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.loop import fit, learning_rate
from rayplat.train.run import TrainRun
from rayplat.train.tabular import TabularNet

from .synthetic import INPUTS, make_rows

EPOCHS, BATCH = 4, 64
# Float32 sums are not associative: two ranks add half batches, one adds the whole. A step's gradient then
# differs by some 1e-7 of its size, and AdamW divides by the gradient's own size, so after 64 steps of at
# most lr = 0.01 each the weights differ by far less than one such step.
TOLERANCE = 2e-4


def build(inputs: int) -> torch.nn.Module:
    return TabularNet(inputs, hidden=(16, 8))


def make_run(folder: Path, report: Callable = lambda metrics: None) -> TrainRun:
    return TrainRun(
        rows=make_rows(),
        build=build,
        seed=3,
        checkpoints=CheckpointFolder(f"file://{folder}"),
        accelerator=Accelerator(cpu=True),
        report=report,
    )


WORKER = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from accelerate import Accelerator
from safetensors.torch import save_file
from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.loop import fit
from rayplat.train.run import TrainRun
from rayplat.train.tabular import TabularNet
sys.path.insert(0, sys.argv[1])
from tests.train.synthetic import make_rows

class Dying(TabularNet):
    steps = die = 0
    def forward(self, x):
        Dying.steps += self.training
        if Dying.steps == Dying.die:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)

def train(folder, die):
    Dying.steps, Dying.die = 0, die
    run = TrainRun(rows=make_rows(), build=lambda n: Dying(n, hidden=(16, 8)), seed=3,
                   checkpoints=CheckpointFolder(f"file://{folder}"), accelerator=Accelerator(cpu=True))
    print("start_epoch", run.start_epoch, "world", run.world_size)
    fit(run, epochs=4, batch_size=64, lr=0.01)
    if run.rank == 0:
        save_file(run.network.state_dict(), folder / "final.safetensors")
    run.accelerator.wait_for_everyone()

for argument in sys.argv[2:]:
    folder, die = argument.rsplit(":", 1)
    train(Path(folder), int(die) if os.environ["RANK"] == "1" else 0)
torch.distributed.destroy_process_group()
"""


def train_by_two(*runs: tuple[Path, int]) -> tuple[list[int], str]:
    """Train one run after the other with two gloo processes; rank 1 kills itself at a step, 0 is never.

    Returns:
        The exit codes, and what rank 0 printed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = []
    for folder, die in runs:
        folder.mkdir(exist_ok=True)
        arguments.append(f"{folder}:{die}")
    processes = []
    for rank in range(2):
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", WORKER, str(Path(__file__).parents[2]), *arguments]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    out = [p.communicate(timeout=120)[0] for p in processes]
    return [p.returncode for p in processes], out[0]


def train_alone(folder: Path) -> torch.Tensor:
    run = make_run(folder)
    fit(run, epochs=EPOCHS, batch_size=BATCH, lr=0.01)
    return torch.cat([t.flatten() for _, t in sorted(run.network.state_dict().items())])


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([t.flatten() for _, t in sorted(load_file(folder / "final.safetensors").items())])


def test_one_and_two_workers_and_a_kill_give_the_same_weights(tmp_path):
    two, killed, shrunk = tmp_path / "two", tmp_path / "killed", tmp_path / "shrunk"
    # 16 steps an epoch: step 40 is in the middle of the third.
    codes, _ = train_by_two((two, 0), (killed, 40))
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    shutil.copytree(killed, shrunk)

    codes, out = train_by_two((killed, 0))
    assert codes == [0, 0]
    assert "start_epoch 2 world 2" in out
    assert torch.equal(weights(killed), weights(two))  # the same additions in the same order

    one = train_alone(tmp_path / "one")
    difference = (one - weights(two)).abs().max().item()
    print("largest difference of a weight", difference)
    assert difference < TOLERANCE
    assert torch.allclose(train_alone(shrunk), one, atol=TOLERANCE, rtol=0)


class FakeAccelerator:
    """Where a rank of some world stands; nothing else is needed to cut batches."""

    def __init__(self, rank: int, world: int) -> None:
        self.process_index, self.num_processes, self.device = rank, world, torch.device("cpu")


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_an_epoch_has_every_row_once_in_the_same_batches_for_any_world(tmp_path, world):
    rows = make_rows(1003)
    rows.x_train[:, 0] = np.arange(1003)
    ranks = []
    for rank in range(world):
        run = TrainRun(
            rows=rows,
            build=build,
            seed=3,
            checkpoints=CheckpointFolder(f"file://{tmp_path}"),
            accelerator=FakeAccelerator(rank, world),
        )
        ranks.append([x[:, 0].tolist() for x, _ in run.epoch_batches(2, 100)])
    batches = [list(chain.from_iterable(rank[at] for rank in ranks)) for at in range(11)]
    assert sorted(chain.from_iterable(batches)) == list(range(1003))
    assert {len(b) for b in batches} == {91, 92}
    run = TrainRun(
        rows=rows,
        build=build,
        seed=3,
        checkpoints=CheckpointFolder(f"file://{tmp_path}"),
        accelerator=FakeAccelerator(0, 1),
    )
    alone = [x[:, 0].tolist() for x, _ in run.epoch_batches(2, 100)]
    assert alone == batches
    assert alone != [x[:, 0].tolist() for x, _ in run.epoch_batches(3, 100)]


def test_uneven_slices_are_weighed_so_that_the_gradient_is_the_global_mean(tmp_path):
    """Three ranks, batches of 7: slices of 3, 2 and 2 rows."""
    rows = make_rows(7)
    gradients = []
    for rank in range(3):
        run = TrainRun(
            rows=rows,
            build=lambda n: torch.nn.Linear(n, 1),
            seed=1,
            checkpoints=CheckpointFolder(f"file://{tmp_path}"),
            accelerator=FakeAccelerator(rank, 3),
        )
        ((x, y),) = list(run.epoch_batches(0, 7))
        run.global_mean((run.network(x.nan_to_num()).squeeze(-1) - y) ** 2).backward()
        gradients.append(run.network.weight.grad)
    whole = torch.nn.Linear(4, 1)
    whole.load_state_dict(run.network.state_dict())
    x, y = torch.from_numpy(rows.x_train).nan_to_num(), torch.from_numpy(rows.y_train)
    ((whole(x).squeeze(-1) - y) ** 2).mean().backward()
    assert torch.allclose(sum(gradients) / 3, whole.weight.grad, rtol=1e-5)


def test_the_loop_learns_and_tells_of_each_epoch(tmp_path):
    told = []
    run = make_run(tmp_path, told.append)
    assert tuple(run.inputs) == INPUTS
    fit(run, epochs=EPOCHS, batch_size=BATCH, lr=0.02)
    assert [m["epoch"] for m in told] == [0, 1, 2, 3]
    assert told[-1]["roc_auc"] > 0.8
    assert [step for step, _ in run.history["roc_auc"]] == [0, 1, 2, 3]
    assert run.history["train_loss"][-1][1] < run.history["train_loss"][0][1]
    steps = [step for step, _ in run.history["train_loss_by_step"]]
    assert steps == list(range(64))
    assert run.evaluate() == pytest.approx({k: told[-1][k] for k in run.evaluate()})


def test_a_finished_run_that_is_opened_again_has_nothing_left_to_do(tmp_path):
    run = make_run(tmp_path)
    fit(run, epochs=1, batch_size=BATCH)
    again = make_run(tmp_path)
    fit(again, epochs=1, batch_size=BATCH)
    assert again.start_epoch == 1
    assert again.history == run.history
    assert torch.equal(again.network.head.weight, run.network.head.weight)


def test_statistics_leave_missing_values_out(tmp_path):
    run = make_run(tmp_path)
    x = run._rows.x_train
    mean, std = run.train_statistics()
    assert mean.numpy() == pytest.approx(np.nanmean(x, axis=0), rel=1e-4, abs=1e-4)
    assert std.numpy() == pytest.approx(np.nanstd(x, axis=0), rel=1e-4)
    edges = run.train_quantiles(4).numpy()
    assert edges[:, 0] == pytest.approx(np.nanmin(x, axis=0))
    assert edges[:, 2] == pytest.approx(np.nanmedian(x, axis=0), abs=1e-3)


def test_a_loss_that_is_not_finite_stops_with_its_epoch(tmp_path):
    run = make_run(tmp_path)
    with torch.no_grad():
        run.network.head.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="training loss is nan in epoch 0"):
        fit(run, epochs=1, batch_size=BATCH)


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"epochs": 1, "lr": 0.0}, {"epochs": 1, "batch_size": 0}])
def test_arguments_out_of_range_are_told_at_the_door(tmp_path, bad):
    with pytest.raises(UserError):
        fit(make_run(tmp_path), **bad)


def test_the_learning_rate_is_a_function_of_the_step():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[4] == 1.0
    assert max(rates) == 1.0
    assert rates[0] == 0.2
    assert rates[-1] < 0.001
