"""What the policy says of each failure."""

import pytest
import torch

from rayplat.core.project.training import OnFailure
from rayplat.train.failures.decisions import (
    GoOn,
    Halve,
    Skip,
    Stop,
    on_bad_loss,
    on_failed_checkpoint,
    on_out_of_memory,
)
from rayplat.train.failures.memory import is_out_of_memory, micro_batches


def test_a_bad_loss_stops_or_is_skipped_so_often():
    assert isinstance(on_bad_loss(OnFailure(), 0), Stop)
    skipping = OnFailure(bad_loss="skip", skip_at_most=2)
    assert [type(on_bad_loss(skipping, n)) for n in range(4)] == [Skip, Skip, Stop, Stop]


def test_memory_is_halved_down_to_the_smallest():
    assert on_out_of_memory(OnFailure(), 9) == Halve(4)
    assert isinstance(on_out_of_memory(OnFailure(), 1), Stop)
    assert isinstance(on_out_of_memory(OnFailure(smallest_micro_batch=5), 9), Stop)
    assert isinstance(on_out_of_memory(OnFailure(out_of_memory="stop"), 64), Stop)


def test_checkpoints_may_fail_so_often_in_a_row():
    assert [type(on_failed_checkpoint(OnFailure(failed_checkpoints=2), n)) for n in (1, 2, 3)] == [
        GoOn,
        GoOn,
        Stop,
    ]


@pytest.mark.parametrize("rows", [0, 1, 7, 64, 65])
@pytest.mark.parametrize("most", [None, 1, 3, 64])
def test_micro_batches_hold_every_row_once_and_never_too_many(rows, most):
    parts = micro_batches(rows, most)
    assert [row for part in parts for row in range(rows)[part]] == list(range(rows))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) <= (most or max(rows, 1))
    assert max(sizes) - min(sizes) <= 1


def test_memory_errors_are_told_from_others():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
