"""Blocks hold every row that matters once, in the order of a stable sort by entity, time and ties."""

import numpy as np
import pytest

from rayplat.features.windows.blocks import Blocks, Rows

ALWAYS = -(2**63), 2**63 - 1


def rows_of(rng, n, entities, spread, *, tied):
    event = rng.integers(0, spread, n)
    ties = [rng.integers(0, 3, n), rng.integers(0, 3, n)] if tied else []
    return Rows(rng.integers(-1, entities, n).astype(np.int32), event, event, ties)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("spread", [4, 10**9])
@pytest.mark.parametrize("size", [1, 60, 10**6])
def test_the_order_is_that_of_a_stable_sort(size, spread, tied):
    seed = 8
    print("seed", seed)
    rng = np.random.default_rng(seed)
    rows = rows_of(rng, 3_000, 90, spread, tied=tied)
    code = rows.code.copy()
    asked = rng.integers(0, 2, 90)
    blocks = Blocks(rows, asked, *ALWAYS, size)
    assert (len(blocks) == 1) == (size == 10**6)
    order = np.lexsort([*rows.ties[::-1], rows.event, code])
    wanted = order[(code[order] >= 0) & (asked[code[order]] > 0)]
    held = [blocks.block(number) for number in range(len(blocks))]
    assert np.concatenate([block.row for block in held]).tolist() == wanted.tolist()
    assert np.concatenate([block.event for block in held]).tolist() == rows.event[wanted].tolist()
    assert [block.first for block in held] == [0, *(block.last for block in held[:-1])]
    assert held[-1].last == 90
    for block in held:
        sizes = [int((code[wanted] == entity).sum()) for entity in range(block.first, block.last)]
        assert np.diff(block.start).tolist() == sizes


def test_rows_out_of_the_time_that_matters_are_left_out():
    event = np.array([1, 2, 3, 4, 5])
    rows = Rows(np.zeros(5, np.int32), event, event)
    assert Blocks(rows, np.array([1]), 2, 4).block(0).event.tolist() == [2, 3, 4]


def test_an_entity_with_most_of_the_rows_has_a_block_of_its_own():
    rng = np.random.default_rng(1)
    code = np.where(rng.random(5_000) < 0.9, 7, rng.integers(0, 20, 5_000)).astype(np.int32)
    event = rng.integers(0, 9, 5_000)
    blocks = Blocks(Rows(code.copy(), event, event), np.ones(20, np.int64), *ALWAYS, 100)
    held = [blocks.block(number) for number in range(len(blocks))]
    assert [(b.first, b.last) for b in held if b.widest > 1_000] == [(7, 8)] or any(
        b.first <= 7 < b.last <= 8 for b in held if b.widest > 1_000
    )
    assert sum(len(block.row) for block in held) == 5_000


def test_no_entities_have_no_blocks():
    none = np.empty(0, np.int64)
    assert len(Blocks(Rows(np.empty(0, np.int32), none, none), none, *ALWAYS)) == 0
