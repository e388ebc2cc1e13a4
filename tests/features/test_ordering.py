"""The compiled order of rows is that of a stable sort, and numbers by a table are those by a join."""

import numpy as np
import polars as pl
import pytest

from rayplat.features import questions as asking
from rayplat.features.ordering import first_seen, order_of


@pytest.mark.parametrize("keys", [1, 3])
@pytest.mark.parametrize("spread", [3, 10**6])
def test_rows_are_in_the_order_of_a_stable_sort(keys, spread):
    seed = 5
    print("seed", seed)
    rng = np.random.default_rng(seed)
    n = 4_000
    code = np.where(rng.random(n) < 0.5, 0, rng.integers(-1, 300, n))
    columns = [rng.integers(-spread, spread, n) for _ in range(keys)]
    wanted = np.lexsort([*columns[::-1], code])
    assert order_of(code, columns).tolist() == wanted[code[wanted] >= 0].tolist()


def test_rows_that_are_sorted_stay_and_no_rows_have_an_order():
    assert order_of(np.array([1, 0, 1, -1, 0]), [np.array([1, 5, 2, 0, 5])]).tolist() == [1, 4, 0, 2]
    assert order_of(np.empty(0, np.int64), [np.empty(0, np.int64)]).tolist() == []


def test_keys_are_numbered_by_their_first_appearance():
    table, code = np.full(9, -1), np.empty(5, np.int64)
    first_seen.py_func(np.array([7, -1, 7, 3, -1]), -1, table, code)
    assert code.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("far", [1, 10**9])
def test_entities_of_many_rows_have_the_numbers_of_few(far):
    rng = np.random.default_rng(6)
    many = pl.DataFrame({"k": rng.integers(-500, 9_000, 60_000) * far})
    asked = pl.DataFrame({"k": pl.Series([*(rng.integers(-900, 9_900, 500) * far).tolist(), None])})
    at = np.zeros(501, np.int64)
    distinct = many.unique(maintain_order=True)
    numbers = {key: i for i, key in enumerate(distinct.get_column("k").to_list())}
    code = asking.number_entities(many, ("k",))
    assert code.tolist() == [numbers[key] for key in many.get_column("k").to_list()]
    found = asking.ask(many, asked, ("k",), at)
    assert found.code.tolist() == [numbers.get(key, -1) for key in asked.get_column("k").to_list()]
    assert found.null.tolist() == [False] * 500 + [True]
