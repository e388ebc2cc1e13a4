"""Prepared rows are the same whoever prepares them, and nobody waits for a stream that does not come."""

import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.project.training import Prepare, Training
from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.input.draws import Draws
from rayplat.train.input.loader import InputLoader
from rayplat.train.input.matrix import RowMatrix
from rayplat.train.input.order import SampleOrder
from rayplat.train.input.prepared import PreparedInput, RowBatch, prepare_rows, table_of
from rayplat.train.input.stream import RayStream
from rayplat.train.run import TrainRun
from tests.train.synthetic import make_rows

ROWS, WIDTH, SEED = 103, 3, 4
X = np.arange(ROWS * WIDTH, dtype=np.float32).reshape(ROWS, WIDTH)
Y = (np.arange(ROWS) % 2).astype(np.float32)
INPUTS = ("a", "b", "c")
ORDER = SampleOrder(ROWS, 10, SEED)


def jitter(rows: RowBatch) -> tuple[Any, Any]:
    return rows.x + rows.draws.normal(rows.x.shape[1]), rows.y


def expected(epoch: int, numbers: np.ndarray) -> np.ndarray:
    return (X[numbers] + Draws(SEED, epoch, numbers).normal(WIDTH)).astype(np.float32)


class Stream:
    """Has the batches that it is told to have; says which it was asked for."""

    def __init__(self, epoch: int, have: set[int], *, fails: bool = False) -> None:
        self.have, self._fails = {epoch * ORDER.batches + batch for batch in have}, fails
        self.asked: list[int] = []
        self.closed = False

    def covers(self, at: int) -> bool:
        return not self.closed and max(self.asked, default=at) <= at < 5 * ORDER.batches

    def get(self, at: int, timeout_s: float) -> pa.Table | None:
        self.asked.append(at)
        if self._fails:
            raise UnavailableError("the node is gone", "")
        if at not in self.have:
            threading.Event().wait(min(timeout_s, 0.001))
            return None
        epoch, batch = ORDER.place(at)
        numbers = ORDER.share(ORDER.permutation(epoch), batch, 0, 1)
        return table_of(expected(epoch, numbers), Y[numbers])

    def close(self) -> None:
        self.closed = True


def input_of(streams: list[Stream], told: list[str] | None = None, patience_s: float = 0.05) -> PreparedInput:
    left = iter(streams)
    note = None if told is None else told.append
    return PreparedInput(
        RowMatrix(X, Y), jitter, INPUTS, ORDER, lambda at: next(left, None), note, patience_s
    )


def take_epoch(prepared: PreparedInput, epoch: int, first: int = 0) -> None:
    """Takes an epoch's batches by the loader, and checks each value."""
    loader = InputLoader(RowMatrix(X, Y), ORDER, prepared=prepared)
    batches = loader.batches(epoch, first)
    for at in range(first, ORDER.batches):
        numbers = ORDER.share(ORDER.permutation(epoch), at, 0, 1)
        x, y = next(batches)
        np.testing.assert_array_equal(x.numpy(), expected(epoch, numbers))
        np.testing.assert_array_equal(y.numpy(), Y[numbers])
    assert list(batches) == []


def test_without_a_stream_all_is_prepared_here():
    prepared = input_of([])
    take_epoch(prepared, 2, first=3)
    assert (prepared.streamed, prepared.here) == (0, ORDER.batches - 3 + 1)  # and the next epoch's first one


def test_a_stream_that_comes_late_is_taken_up_and_gives_the_same_values():
    told: list[str] = []
    stream = Stream(2, set(range(4, 4 + 2 * ORDER.batches)))
    prepared = input_of([stream], told)
    take_epoch(prepared, 2)
    assert (prepared.streamed, prepared.here) == (ORDER.batches - 4 + 1, 4)  # one of the next epoch
    take_epoch(prepared, 3, first=1)
    assert prepared.streamed == 2 * ORDER.batches - 4 + 1
    assert not stream.closed  # it has been kept from one epoch to the next
    take_epoch(prepared, 0)
    assert told == []  # nothing is wrong with a stream that begins


def test_a_stream_that_runs_dry_is_waited_for_and_then_told_of_once():
    told: list[str] = []
    prepared = input_of([Stream(2, {0, 1, 2, 6, 9})], told)
    take_epoch(prepared, 2)
    assert prepared.streamed == 5
    assert prepared.here == ORDER.batches - 5 + 1
    assert told == ["no prepared rows came for 0 s: the worker prepares them itself"]


def test_a_stream_that_fails_is_given_up_and_told_of():
    told: list[str] = []
    stream = Stream(2, set(), fails=True)
    prepared = input_of([stream], told)
    take_epoch(prepared, 2)
    assert prepared.streamed == 0
    assert (len(stream.asked), stream.closed) == (1, True)
    assert told == ["the worker prepares its rows itself: the node is gone"]


def test_a_loop_that_is_left_does_not_wait_for_the_stream():
    stream = Stream(0, {0})
    prepared = input_of([stream], patience_s=3600.0)
    loader = InputLoader(RowMatrix(X, Y), ORDER, prepared=prepared)
    batches = loader.batches(0)
    next(batches)
    while 1 not in stream.asked:
        threading.Event().wait(0.001)
    batches.close()  # the thread waits for batch 1, and would for an hour
    assert stream.closed


@pytest.mark.parametrize(
    "wrong", [lambda rows: (rows.x[1:], rows.y[1:]), lambda rows: (rows.x[:, :1], rows.y)]
)
def test_other_shapes_than_were_given_are_refused(wrong):
    batch = RowBatch(X, Y, INPUTS, Draws(SEED, 0, np.arange(ROWS)))
    with pytest.raises(UserError, match=r"of x \(103, 3\) and y \(103,\)"):
        prepare_rows(wrong, batch)


def test_an_error_of_the_preparation_ends_the_loop():
    def broken(rows: RowBatch) -> Any:
        raise ZeroDivisionError("the well is poisoned")

    loader = InputLoader(
        RowMatrix(X, Y), ORDER, prepared=PreparedInput(RowMatrix(X, Y), broken, INPUTS, ORDER)
    )
    with pytest.raises(ZeroDivisionError, match="poisoned"):
        next(loader.batches(0))


def test_a_thread_reads_ahead_no_further_than_its_bound_and_ends_when_it_is_closed():
    given: list[int] = []

    def tables():
        for at in range(100):
            given.append(at)
            yield pa.table({"at": [at]})

    stream = RayStream(tables, first=5, end=105)
    table = None
    while table is None:
        table = stream.get(7, 0.1)
    assert table["at"].to_pylist() == [2]  # the two before it were dropped
    threading.Event().wait(0.3)
    assert len(given) <= 3 + 8 + 1  # taken, waiting, and one in the hand
    stream.close()
    stream._thread.join(10)
    assert not stream.alive


def test_an_iterator_that_fails_is_told_to_whoever_asks():
    def tables():
        yield pa.table({"at": [0]})
        raise OSError("the node is gone")

    stream = RayStream(tables, first=0, end=2)
    stream._thread.join(10)
    assert stream.get(0, 0.0) is not None
    for _ in range(2):
        with pytest.raises(UnavailableError, match="the node is gone"):
            stream.get(1, 0.0)


def test_a_run_gives_the_rows_that_its_model_prepares(tmp_path):
    """With other numbers of workers the same rows get the same values."""

    class OneOf:
        def __init__(self, rank: int, world: int) -> None:
            self.process_index, self.num_processes, self.device = rank, world, torch.device("cpu")

    found = []
    for world in (1, 3):
        values: dict[float, list[float]] = {}
        for rank in range(world):
            rows = make_rows(ROWS)
            rows.x_train[:, :2] = np.arange(ROWS)[:, None]
            accelerator: Any = OneOf(rank, world)
            run = TrainRun(
                rows=rows,
                build=lambda inputs: torch.nn.Linear(inputs, 1),
                seed=SEED,
                checkpoints=CheckpointFolder(f"file://{tmp_path}"),
                accelerator=accelerator,
                training=Training(prepare=Prepare(noisy)),
            )
            for x, _ in run.epoch_batches(0, 10):
                values |= {row[0]: row for row in x.numpy().tolist()}
        assert len(values) == ROWS
        found.append(values)
    assert {n: row[1] for n, row in found[0].items()} == {n: row[1] for n, row in found[1].items()}
    assert any(row[0] != row[1] for row in found[0].values())


def noisy(rows: RowBatch) -> tuple[Any, Any]:
    x = rows.x.copy()
    x[:, 1] += rows.draws.uniform(1)[:, 0]
    return x, rows.y


def test_a_run_keeps_its_stream_from_one_epoch_to_the_next(tmp_path):
    """`epoch_batches` takes an epoch's batches and not one more: that is no loop that was left."""
    begun: list[tuple[int, int, int]] = []
    stream = Stream(0, set(range(3 * ORDER.batches)))

    class Streams:
        def begin(self, order: SampleOrder, at: int, rank: int, world: int) -> Stream:
            begun.append((at, rank, world))
            return stream

    class Alone:
        process_index, num_processes, device = 0, 1, torch.device("cpu")

    rows, accelerator, streams = make_rows(ROWS), Alone(), Streams()
    run = TrainRun(
        rows=rows,
        build=lambda inputs: torch.nn.Linear(inputs, 1),
        seed=SEED,
        checkpoints=CheckpointFolder(f"file://{tmp_path}"),
        accelerator=accelerator,  # type: ignore[arg-type]
        training=Training(prepare=Prepare(jitter)),
        streams=streams,  # type: ignore[arg-type]
    )
    for epoch in range(2):
        for _ in run.epoch_batches(epoch, 10):
            assert not stream.closed
    assert begun == [(0, 0, 1)]
    assert run.prepared is not None
    assert run.prepared.here == 0
    assert run.prepared.streamed - 2 * ORDER.batches in {0, 1}  # the next epoch's first one, perhaps
    assert not stream.closed
    run.leave()
    assert stream.closed
