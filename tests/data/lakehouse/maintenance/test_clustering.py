"""Clustering: rows in an order by which a filter on any of the columns skips most of a file."""

import random

import numpy as np
import pyarrow as pa
import pytest

from rayplat.core.errors import UserError
from rayplat.core.project.table import linear, zorder
from rayplat.data.lakehouse.maintenance.clustering import clustered, zorder_indices


def test_the_z_curve_visits_a_square_of_four_by_four_as_morton_drew_it() -> None:
    x = pa.chunked_array([[i % 4 for i in range(16)]])
    y = pa.chunked_array([[i // 4 for i in range(16)]])
    order = zorder_indices([y, x])
    assert [(i % 4, i // 4) for i in order[:8].tolist()] == [
        (0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 0), (2, 1), (3, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("skewed", [False, True])
def test_a_filter_on_either_column_reads_few_pages(skewed: bool) -> None:
    rng = np.random.default_rng(7)
    first, second = (rng.lognormal(0, 6 if skewed else 0.1, 2**14) for _ in range(2))
    data = clustered(pa.table({"a": first, "b": second}), zorder("a", "b"))
    for name, values in (("a", first), ("b", second)):
        low, high = np.quantile(values, [0.50, 0.51])
        pages = data[name].to_numpy().reshape(64, 256)
        read = ((pages.min(axis=1) <= high) & (pages.max(axis=1) >= low)).sum()
        assert read <= 16, f"{read} of 64 pages for a hundredth of {name}"


@pytest.mark.parametrize("kind", [linear, zorder])
def test_rows_stay_whole_and_nulls_come_last(kind: type) -> None:
    rng = random.Random(1)
    ids = list(range(500))
    data = pa.table(
        {"k": [rng.choice([None, 1, 2, 3]) for _ in ids], "t": [f"{i % 7}" for i in ids], "id": ids}
    )
    found = clustered(data, kind("k", "t"))
    assert sorted(found["id"].to_pylist()) == ids
    assert found.sort_by("id").equals(data.sort_by("id"))
    keys = clustered(data, kind("k"))["k"].to_pylist()
    assert keys == sorted(keys, key=lambda k: (k is None, k or 0))


def test_linear_order_is_stable() -> None:
    data = pa.table({"k": [2, 1] * 1000, "id": range(2000)})
    found = clustered(data, linear("k"))["id"].to_pylist()
    assert found == [*range(1, 2000, 2), *range(0, 2000, 2)]


def test_no_rows_and_one_value_are_fine() -> None:
    none = pa.table({"k": pa.array([], pa.int64()), "t": pa.array([], pa.string())})
    assert clustered(none, zorder("k", "t")).num_rows == 0
    same = pa.table({"k": [5] * 9, "id": range(9)})
    assert clustered(same, zorder("k"))["id"].to_pylist() == list(range(9))


def test_a_column_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match="clustered by"):
        clustered(pa.table({"k": [1]}), zorder("k", "x"))
