"""Sketches: exact where they say so, within their bounds where they estimate, the same however merged."""

import pickle
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from rayplat.data.profile.columns import column_profile
from rayplat.data.profile.distinct import SMALLEST, Distinct
from rayplat.data.profile.sketch import ColumnSketch, sample_rows

SEED = 5


def sketched(values: pl.Series, parts: int = 1, batches: int = 1) -> ColumnSketch:
    """A column that is sketched in parts, each in batches; parts travel as they do between processes."""
    rng = np.random.default_rng(SEED)
    found: ColumnSketch | None = None
    size = -(-values.len() // parts)
    for at in range(0, max(values.len(), 1), size or 1):
        part, step = values.slice(at, size), -(-size // batches)
        sketch = ColumnSketch(values.dtype)
        for begin in range(0, part.len(), step or 1):
            batch = part.slice(begin, step)
            sketch.update(batch, sample_rows(batch.len(), rng))
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


def test_a_sample_has_a_row_of_every_stratum() -> None:
    rng = np.random.default_rng(SEED)
    assert sample_rows(20_000, rng).tolist() == list(range(20_000))
    drawn = sample_rows(1_000_000, rng)
    step = 1_000_000 // 16_384
    assert np.array_equal(drawn // step, np.arange(len(drawn)))
    assert drawn.max() < 1_000_000
