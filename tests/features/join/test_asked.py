"""Questions are sorted by time, however their times lie, and each keeps its entity."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from rayplat.features.join.asked import by_time, sorted_rows
from rayplat.features.join.keys import keys_of

LEAST, MOST = -(2**63), 2**63 - 1


def sorts(times):
    at = np.array(times, np.int64)
    entity = np.arange(len(at)) % 7
    kept = at.copy()
    asked = by_time(keys_of([pa.array(entity)]), at)
    assert sorted(asked.order.tolist()) == list(range(len(at)))
    assert asked.at.tolist() == sorted(times) == at[asked.order].tolist()
    assert asked.code.tolist() == asked.keys.asked[asked.order].tolist()
    assert at.tolist() == kept.tolist()
    assert at[sorted_rows(at)].tolist() == sorted(times)
    return asked


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.lists(st.integers(LEAST, MOST), max_size=60),
        st.lists(st.integers(-5, 5), max_size=60),
        st.lists(st.one_of(st.integers(0, 100), st.sampled_from([LEAST, MOST, 2**61])), max_size=60),
    )
)
def test_times_of_any_kind(times):
    sorts(times)


@pytest.mark.parametrize("outlier", [2**40, 2**61, MOST])
def test_times_in_one_heap_and_one_far_away(outlier):
    # All but one fall into one bucket, so that buckets do not help.
    rng = np.random.default_rng(1)
    sorts([outlier, *rng.integers(0, 3000, 5000).tolist()])


def test_many_questions_at_few_times():
    rng = np.random.default_rng(2)
    sorts((rng.integers(0, 4, 5000) * 10**12).tolist())


def test_so_many_questions_that_threads_share_them():
    rng = np.random.default_rng(3)
    sorts(rng.integers(0, 2**45, 90_000).tolist())
    sorts(rng.integers(2**44, 2**44 + 300, 90_000).tolist())


@pytest.mark.parametrize("crowded", ["first", "last"])
def test_half_of_so_many_questions_lies_in_one_heap(crowded):
    # One thread finds its half too uneven, the other does not.
    rng = np.random.default_rng(4)
    even = rng.integers(2**20, 2**50, 50_000)
    heap = rng.integers(0, 1000, 50_000) + (0 if crowded == "first" else 2**50)
    sorts(rng.permutation([*even, *heap]).tolist())


def test_questions_in_order_keep_it_and_are_not_the_callers_memory():
    times = np.arange(0, 3000, 3)
    asked = by_time(keys_of([pa.array(times)]), times)
    assert asked.order.tolist() == list(range(1000))
    assert not np.shares_memory(asked.at, times)
    assert not np.shares_memory(asked.code, asked.keys.asked)
