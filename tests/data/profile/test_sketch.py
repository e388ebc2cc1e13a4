"""Sketches: exact where they say so, within their bounds where they estimate, the same however merged."""

import pickle
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from rayplat.data.profile import kernels
from rayplat.data.profile.columns import column_profile
from rayplat.data.profile.distinct import SMALLEST, Distinct
from rayplat.data.profile.sketch import ColumnSketch

SEED = 5


def sketched(values: pl.Series, parts: int = 1, batches: int = 1) -> ColumnSketch:
    """A column that is sketched in parts, each in batches; parts travel as they do between processes."""
    array = values.to_arrow()
    found: ColumnSketch | None = None
    size = -(-len(array) // parts)
    for seed, at in enumerate(range(0, max(len(array), 1), size or 1)):
        part, step = array.slice(at, size), -(-size // batches)
        sketch = ColumnSketch(array.type, seed)
        for begin in range(0, len(part), step or 1):
            sketch.update(part.slice(begin, step))
        travelled: ColumnSketch = pickle.loads(pickle.dumps(sketch))
        if found is None:
            found = travelled
        else:
            found.merge(travelled)
    assert found is not None
    return found


@pytest.mark.parametrize(("parts", "batches"), [(1, 1), (1, 4), (5, 3)])
def test_numbers(parts: int, batches: int) -> None:
    values = np.random.default_rng(SEED).normal(10, 3, 300_000)
    series = pl.Series("x", values).set(pl.Series(np.arange(300_000) % 10 == 0), None)
    there = values[np.arange(300_000) % 10 != 0]
    found = column_profile("x", "double", sketched(series, parts, batches), hidden=False)
    assert (found.rows, found.nulls, found.nans) == (300_000, 30_000, 0)
    assert (found.least, found.greatest) == (there.min(), there.max())
    assert found.mean == pytest.approx(there.mean(), rel=1e-9)
    assert found.stddev == pytest.approx(there.std(ddof=1), rel=1e-9)
    assert abs(found.distinct / 270_000 - 1) < 0.06, f"seed {SEED}: four standard errors"
    assert not found.distinct_exact
    ranks = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
    for name, rank in ranks.items():
        assert found.quantiles is not None
        assert abs((there < found.quantiles[name]).mean() - rank) < 0.02, name
    assert found.histogram is not None
    assert sum(found.histogram.counts) == pytest.approx(270_000, abs=24)
    assert found.histogram.edges[0] == there.min()
    assert found.top == (), "nothing leads among values that are all different"


@pytest.mark.parametrize("parts", [1, 4])
def test_few_values_are_exact(parts: int) -> None:
    values = pl.Series("x", [i % 7 for i in range(7000)] + [3] * 500)
    found = column_profile("x", "int64", sketched(values, parts), hidden=False)
    assert (found.distinct, found.distinct_exact, found.top_exact) == (7, True, True)
    assert (found.top[0].value, found.top[0].count) == (3, 1500)
    assert found.quantiles is not None
    assert found.quantiles["p50"] == float(np.quantile(values.to_numpy(), 0.5, method="inverted_cdf"))
    assert found.histogram is not None
    assert found.histogram.counts == (1000, 1000, 1000, 1500, 1000, 1000, 1000)


def test_a_column_that_begins_with_few_values_and_has_many() -> None:
    values = pl.Series("x", ["same"] * 200_000 + [f"v{i}" for i in range(200_000)])
    found = column_profile("x", "string", sketched(values, parts=4), hidden=False)
    assert abs(found.distinct / 200_001 - 1) < 0.06
    assert (found.top[0].value, found.top_exact) == ("same", False)
    assert found.top[0].count == pytest.approx(200_000, rel=0.05)
    assert (found.shortest, found.longest) == (2, 7)


def test_texts_are_measured_in_characters() -> None:
    found = column_profile("x", "string", sketched(pl.Series(["zü", "", None, "東京駅"])), hidden=False)
    assert (found.shortest, found.longest, found.mean_length) == (0, 3, pytest.approx(5 / 3))
    assert (found.least, found.greatest, found.histogram) == ("", "東京駅", None)


def test_times_dates_booleans_bytes_and_nan() -> None:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    times = pl.Series([at, at.replace(day=3)], dtype=pl.Datetime("us", "UTC"))
    found = column_profile("t", "timestamp", sketched(times), hidden=False)
    assert found.mean == at.replace(day=2)
    assert found.histogram is not None
    assert found.histogram.edges[0] == at
    assert sum(found.histogram.counts) == 2
    dates = column_profile("d", "date", sketched(times.dt.date()), hidden=False)
    assert (dates.mean, dates.quantiles and dates.quantiles["p99"]) == (
        at.replace(day=2).date(),
        dates.greatest,
    )
    flags = column_profile("b", "bool", sketched(pl.Series([True, False, True])), hidden=False)
    assert [(top.value, top.count) for top in flags.top] == [(True, 2), (False, 1)]
    raw = column_profile("r", "binary", sketched(pl.Series([b"a", b"abc"])), hidden=False)
    assert (raw.longest, raw.least) == (3, None)
    nan = column_profile("f", "double", sketched(pl.Series([1.0, float("nan"), None])), hidden=False)
    assert (nan.nans, nan.nulls, nan.mean, nan.least, nan.greatest) == (1, 1, 1.0, 1.0, 1.0)


def test_nothing_and_only_nulls() -> None:
    for values in (pl.Series([], dtype=pl.Float64), pl.Series([None, None], dtype=pl.Float64)):
        found = column_profile("x", "double", sketched(values), hidden=False)
        assert (found.distinct, found.nulls, found.mean, found.histogram) == (0, values.len(), None, None)


def test_infinity_has_no_histogram() -> None:
    found = column_profile("x", "double", sketched(pl.Series([1.0, float("inf")])), hidden=False)
    assert (found.greatest, found.histogram) == (float("inf"), None)


def test_personal_data_shows_no_value() -> None:
    found = column_profile(
        "x", "string", sketched(pl.Series(["ann@example.com", "bob@example.com"])), hidden=True
    )
    assert (found.rows, found.distinct, found.hidden) == (2, 2, True)
    assert "example" not in repr(found)


def test_distinct_is_exact_up_to_its_size_and_merges() -> None:
    def hashes(first: int, count: int) -> np.ndarray:
        return pl.Series(range(first, first + count)).hash().to_numpy()

    one, other = Distinct(), Distinct()
    one.update(hashes(0, 3000))
    other.update(hashes(2000, SMALLEST - 3001))
    one.merge(other)
    assert (one.exact, one.estimate()) == (True, SMALLEST - 1001)
    one.update(hashes(0, 500_000))
    again = Distinct()
    for begin in range(0, 500_000, 9999):
        again.update(hashes(begin, min(9999, 500_000 - begin)))
    assert one.estimate() == again.estimate(), "the estimate does not depend on how values arrive"
    assert abs(one.estimate() / 500_000 - 1) < 0.06


def test_the_same_values_give_the_same_profile() -> None:
    values = pl.Series("x", np.random.default_rng(SEED).normal(size=200_000))
    one, other = (column_profile("x", "double", sketched(values, 3, 2), hidden=False) for _ in range(2))
    assert one == other


def test_ranks_are_within_their_bound() -> None:
    """Sorted, shuffled and trending values of which a million and a half are looked at."""
    rng = np.random.default_rng(SEED)
    plain = rng.exponential(size=1_500_000)
    for values in (np.sort(plain), plain, plain + np.arange(len(plain)) / 1e5):
        sketch = sketched(pl.Series("x", values), 1, 7)
        ranks = np.linspace(0.01, 0.99, 99)
        found = np.searchsorted(np.sort(values), sketch.quantiles.at(ranks.tolist())) / len(values)
        assert sketch.quantiles.count == len(values), "each value stands for itself or is stood for"
        assert np.abs(found - ranks).max() < 0.009, f"seed {SEED}"


@pytest.mark.parametrize("kind", [pl.Int64, pl.Int32, pl.Float32, pl.Float64])
def test_many_numbers_of_every_width_with_nulls_and_nan(kind: type[pl.DataType]) -> None:
    raw = np.random.default_rng(SEED).integers(-50_000, 50_000, 120_000)
    values = pl.Series("x", raw).cast(kind)
    values = values.set(pl.Series(np.arange(len(raw)) % 7 == 0), None)
    there = raw[np.arange(len(raw)) % 7 != 0]
    if values.dtype.is_float():
        values = values.set(pl.Series(np.arange(len(raw)) % 7 == 1), float("nan"))
        there = raw[np.arange(len(raw)) % 7 > 1]
    sketch = sketched(values, 2, 2)
    found = column_profile("x", "x", sketch, hidden=False)
    nans = len(raw) - len(there) - found.nulls
    assert (found.nulls, found.nans) == (values.null_count(), nans)
    assert (found.least, found.greatest) == (there.min(), there.max())
    assert found.mean == pytest.approx(there.mean(), rel=1e-12)
    assert found.stddev == pytest.approx(there.std(ddof=1), rel=1e-12)
    assert abs(found.distinct / len(np.unique(there)) - 1) < 0.065


def test_far_from_zero_the_spread_is_right() -> None:
    values = 1e9 + np.random.default_rng(SEED).normal(size=100_000)
    assert sketched(pl.Series("x", values)).moments.stddev == pytest.approx(values.std(ddof=1), rel=1e-8)


def test_zero_has_one_sign() -> None:
    few = column_profile("x", "double", sketched(pl.Series([0.0, -0.0])), hidden=False)
    assert (few.distinct, few.top[0].count) == (1, 2)
    many = sketched(pl.Series([-0.0, 0.0] * 4 + [float(i) for i in range(1, 2001)]))
    assert many.distinct.estimate() == 2001
    late = sketched(pl.Series([*range(1, 3001), 0]), batches=3)
    assert (late.distinct.estimate(), late.least) == (3001, 0)


@pytest.mark.parametrize("count", [300, 3000])
def test_a_dictionary_is_its_values(count: int) -> None:
    texts = pl.Series([f"zü{i % count}" if i % 11 else None for i in range(20_000)]).to_arrow()
    plain, coded = ColumnSketch(texts.type), ColumnSketch(texts.type)
    for at in range(0, len(texts), 6000):
        plain.update(texts.slice(at, 6000))
        coded.update(texts.slice(at, 6000).dictionary_encode())
    one, other = (column_profile("x", "string", sketch, hidden=False) for sketch in (plain, coded))
    assert one == other, "whichever way it is stored"
    assert (one.distinct, one.nulls, one.shortest) == (count, 1819, 3)


def test_long_and_short_texts_differ_wherever_they_differ() -> None:
    texts = ["", "\0", "a", "a\0", "a" * 8, "a" * 9, "a" * 16, "b" + "a" * 15, "a" * 15 + "b", "東京" * 5]
    assert sketched(pl.Series(texts)).distinct.estimate() == len(texts)
    many = sketched(pl.Series([f"{i:>20}" for i in range(4000)]))
    assert (many.distinct.estimate(), many.least, many.longest) == (4000, f"{0:>20}", 20)


def test_decimals_and_lists() -> None:
    money = [Decimal(i) / 100 for i in range(3000)]
    found = column_profile("d", "decimal", sketched(pl.Series(money, dtype=pl.Decimal(18, 2))), hidden=False)
    assert (found.least, found.greatest, found.distinct) == (Decimal(0), Decimal("29.99"), 3000)
    assert (found.mean, found.quantiles and found.quantiles["p50"]) == (
        pytest.approx(14.995),
        pytest.approx(15, abs=0.3),
    )
    lists = column_profile("l", "list", sketched(pl.Series([[1], [1, 2], None, [1]])), hidden=False)
    assert (lists.distinct, lists.nulls, lists.top[0].value, lists.least) == (2, 1, [1], None)


def test_kernels_as_plain_python_give_the_same() -> None:
    """The compiled code is the Python text: overflow of 64 bits included."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    with np.errstate(over="ignore"):
        for keys in rng.integers(-(2**62), 2**62, (3, 5)):
            assert [int(kernels.mix.py_func(k)) for k in keys] == kernels.hashed(keys).tolist()
