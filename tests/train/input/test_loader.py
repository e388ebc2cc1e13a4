import threading
import time

import numpy as np
import pyarrow as pa
import pytest
import torch

from rayplat.core.errors import UserError
from rayplat.train.input.loader import InputLoader
from rayplat.train.input.matrix import RowMatrix
from rayplat.train.input.order import SampleOrder

pytestmark = pytest.mark.timeout(60)
ROWS = 103


def matrix() -> RowMatrix:
    x = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
    return RowMatrix(x, np.arange(ROWS, dtype=np.float32))


def order() -> SampleOrder:
    return SampleOrder(ROWS, 10, seed=1)


def test_a_rank_gets_its_rows_in_order_from_any_batch_on():
    for first in (0, 4, order().batches):
        for rank in (0, 1, 2):
            loader = InputLoader(matrix(), order(), rank, 3)
            got = [y.tolist() for _, y in loader.batches(5, first)]
            permutation = order().permutation(5)
            due = [order().share(permutation, at, rank, 3).tolist() for at in range(first, order().batches)]
            assert got == due
            assert loader.waiting.batches == len(due)


def test_inputs_and_labels_belong_together():
    for x, y in InputLoader(matrix(), order()).batches(0):
        assert x.dtype == torch.float32
        assert torch.equal(x[:, 0], y * 3)


def test_a_batch_stays_as_it_was_while_others_are_read():
    kept = list(InputLoader(matrix(), order(), ahead=1).batches(0))
    again = list(InputLoader(matrix(), order(), ahead=9).batches(0))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(kept, again, strict=True))


def test_an_epoch_after_another_one_has_its_own_rows(tmp_path):
    """The first batch of the next epoch is there already; of any other one it is not taken."""
    loader, fresh = InputLoader(matrix(), order(), 1, 2), lambda: InputLoader(matrix(), order(), 1, 2)
    for epoch, first in [(0, 0), (1, 0), (2, 3), (3, 0), (5, 0)]:
        got = []
        for _, y in loader.batches(epoch, first):
            got.append(y.tolist())
            time.sleep(0.003)  # the thread is at its end before the epoch is
        assert got == [y.tolist() for _, y in fresh().batches(epoch, first)]
        assert loader._kept is not None
        assert loader._kept[0] == (epoch + 1, 0)


def test_the_thread_ends_with_the_iterator():
    before = threading.active_count()
    batches = InputLoader(matrix(), order()).batches(0)
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


class Slow(RowMatrix):
    """Rows that take their time."""

    def take(self, rows, *, pinned=False):
        time.sleep(0.02)
        return super().take(rows, pinned=pinned)


class Broken(RowMatrix):
    """Rows that cannot be read from the third batch on."""

    taken = 0

    def take(self, rows, *, pinned=False):
        self.taken += 1
        if self.taken == 3:
            raise OSError("the disk is gone")
        return super().take(rows, pinned=pinned)


def broken(kind):
    x = np.zeros((ROWS, 3), dtype=np.float32)
    return kind(x, np.zeros(ROWS, dtype=np.float32))


def test_waiting_is_counted():
    loader = InputLoader(broken(Slow), order())
    begin = time.perf_counter()
    list(loader.batches(0))
    wall = time.perf_counter() - begin
    assert 0.5 < loader.waiting.fraction(wall) <= 1.0


def test_an_error_comes_where_its_batch_would():
    batches = InputLoader(broken(Broken), order()).batches(0)
    next(batches)
    next(batches)
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def test_a_table_becomes_a_matrix_and_a_file_of_it_is_mapped(tmp_path):
    table = pa.table({"a": [1, None, 3], "b": [0.5, 1.5, 2.5], "label": [True, False, True]})
    rows = RowMatrix.of_table(table, ["b", "a"], "label")
    rows.write(tmp_path / "rows.arrow")
    for one in (rows, RowMatrix.map(tmp_path / "rows.arrow")):
        x, y = one.take(np.array([2, 0, 1]))
        assert x[:2].tolist() == [[2.5, 3.0], [0.5, 1.0]]
        assert x[2, 0] == 1.5
        assert x[2, 1].isnan()
        assert y.tolist() == [1.0, 1.0, 0.0]
        assert (len(one), one.width) == (3, 2)
    with pytest.raises(UserError, match="no columns"):
        RowMatrix.of_table(table, ["c"], "label")
    (tmp_path / "other").write_bytes(b"no arrow")
    with pytest.raises(UserError, match="no file of rows"):
        RowMatrix.map(tmp_path / "other")


def test_rows_that_are_not_there():
    with pytest.raises(IndexError):
        matrix().take(np.array([ROWS]))
    with pytest.raises(IndexError):
        matrix().take(np.array([-1]))


def test_what_does_not_fit_is_told():
    with pytest.raises(UserError, match="the order is of 7"):
        InputLoader(matrix(), SampleOrder(7, 2, 0))
    with pytest.raises(UserError, match="rank 2 of 2"):
        InputLoader(matrix(), order(), 2, 2)
    with pytest.raises(UserError, match="a label a row"):
        RowMatrix(np.zeros((3, 2), dtype=np.float32), np.zeros(2, dtype=np.float32))
