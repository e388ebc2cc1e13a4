import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from rayplat.core.errors import UserError
from rayplat.train.input.order import SampleOrder


@hypothesis.given(
    rows=st.integers(1, 300), batch_size=st.integers(1, 80), worlds=st.lists(st.integers(1, 5), min_size=1)
)
def test_each_row_comes_once_an_epoch_through_any_sequence_of_resizes(rows, batch_size, worlds):
    order = SampleOrder(rows, batch_size, seed=3)
    permutation, seen = order.permutation(2), []
    for batch in range(order.batches):
        world = worlds[batch % len(worlds)]
        shares = [order.share(permutation, batch, rank, world) for rank in range(world)]
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        assert sum(sizes) <= batch_size
        seen += np.concatenate(shares).tolist()
    assert seen == permutation.tolist()
    assert sorted(seen) == list(range(rows))


def test_the_order_is_that_of_the_run():
    """As `TrainRun.epoch_batches` cuts it: a run that changes to the loader goes on with the same rows."""
    order = SampleOrder(1003, 64, seed=7)
    whole = np.random.default_rng([7, 4]).permutation(1003)
    for batch, expected in enumerate(np.array_split(whole, order.batches)):
        for rank, mine in enumerate(np.array_split(expected, 3)):
            assert order.share(order.permutation(4), batch, rank, 3).tolist() == mine.tolist()


def test_a_step_has_its_place():
    order = SampleOrder(10, 4, seed=0)
    assert [order.place(step) for step in (0, 2, 3, 7)] == [(0, 0), (0, 2), (1, 0), (2, 1)]


def test_numbers_that_make_no_sense():
    with pytest.raises(UserError, match="0 rows"):
        SampleOrder(0, 4, 0)
