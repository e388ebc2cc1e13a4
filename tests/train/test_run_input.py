"""The rows that a run gives: each once an epoch, and the thread that gathers them goes with the loop."""

import threading
from typing import Any

import numpy as np
import pytest
import torch

from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.goodput.spending import Spent
from rayplat.train.input.order import SampleOrder
from rayplat.train.leaving import LeaveError
from rayplat.train.live_state import LiveState
from rayplat.train.run import TrainRun

from .synthetic import make_rows

ROWS, BATCH = 103, 10


class OneOf:
    """Where a rank of some world stands; nothing else is needed to cut batches."""

    def __init__(self, rank: int, world: int) -> None:
        self.process_index, self.num_processes, self.device = rank, world, torch.device("cpu")


def make_run(tmp_path, live: LiveState | None = None, rank: int = 0, world: int = 1, **more: Any) -> TrainRun:
    rows = make_rows(ROWS)
    rows.x_train[:, 0] = np.arange(ROWS)
    accelerator: Any = OneOf(rank, world)
    return TrainRun(
        rows=rows,
        build=lambda inputs: torch.nn.Linear(inputs, 1),
        seed=3,
        checkpoints=CheckpointFolder(f"file://{tmp_path}"),
        accelerator=accelerator,
        live=live,
        **more,
    )


def numbers(batch: tuple[torch.Tensor, torch.Tensor]) -> list[int]:
    return batch[0][:, 0].int().tolist()


def test_an_epoch_that_is_left_goes_on_at_its_next_row_with_other_workers(tmp_path):
    """Three workers take four batches and a half; then two go on with the state of the first."""
    order = SampleOrder(ROWS, BATCH, 3)
    got: list[int] = []
    lives = []
    for rank in range(3):
        run = make_run(tmp_path, rank=rank, world=3)
        batches = run.epoch_batches(1, BATCH)
        taken = [numbers(next(batches)) for _ in range(5)]
        got += [row for batch in taken[:4] for row in batch]  # the fifth was begun and not done
        batches.close()
        lives.append(run.live)
    assert {live.batch for live in lives} == {4}
    for rank in range(2):
        run = make_run(tmp_path, LiveState(lives[0].network, step=4, epoch=1, batch=4), rank=rank, world=2)
        got += [row for batch in run.epoch_batches(1, BATCH) for row in numbers(batch)]
        assert run.live.batch == order.batches
        assert list(run.epoch_batches(0, BATCH)) == []
    assert sorted(got) == list(range(ROWS))


def test_the_thread_goes_when_the_loop_is_left(tmp_path):
    before = threading.active_count()
    run = make_run(tmp_path)
    for at, _ in enumerate(run.epoch_batches(0, BATCH)):
        assert threading.active_count() == before + 1
        if at == 2:
            break
    assert threading.active_count() == before
    assert run.live.batch == 2
    assert len(list(run.epoch_batches(0, BATCH))) == 9
    assert threading.active_count() == before


def test_the_thread_goes_when_the_group_is_left_between_two_steps(tmp_path):
    before = threading.active_count()

    def leave(run: TrainRun) -> None:
        if run.live.step == 3:
            raise LeaveError

    run = make_run(tmp_path, boundary=leave)
    with pytest.raises(LeaveError):
        list(run.epoch_batches(0, BATCH))
    assert (run.live.step, run.live.batch) == (3, 3)
    assert threading.active_count() == before


def test_an_error_of_the_rows_comes_with_their_step_and_the_thread_goes(tmp_path):
    class Broken:
        """Rows of which the fourth batch cannot be read."""

        def __init__(self, rows) -> None:
            self._rows, self._taken = rows, 0

        def __len__(self) -> int:
            return len(self._rows)

        def take(self, rows, *, pinned=False):
            self._taken += 1
            if self._taken == 4:
                raise OSError("the disk is gone")
            return self._rows.take(rows, pinned=pinned)

    before = threading.active_count()
    run = make_run(tmp_path)
    run._matrix = Broken(run._matrix)
    with pytest.raises(OSError, match="the disk is gone"):
        list(run.epoch_batches(0, BATCH))
    assert (run.live.step, run.live.batch) == (3, 3)
    assert threading.active_count() == before


def test_waiting_for_rows_is_of_the_input(tmp_path):
    class Slow:
        """Rows that take a hundredth of a second a batch."""

        def __init__(self, rows) -> None:
            self._rows = rows

        def __len__(self) -> int:
            return len(self._rows)

        def take(self, rows, *, pinned=False):
            threading.Event().wait(0.01)
            return self._rows.take(rows, pinned=pinned)

    run = make_run(tmp_path)
    run._matrix = Slow(run._matrix)
    assert len(list(run.epoch_batches(0, BATCH))) == 11
    assert run.watch.spent().seconds(Spent.INPUT) > 0.1
