"""Accumulators give what fractions give, however their values are cut in parts and merged."""

import math
import random

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import given, settings

from rayplat.core.errors import BugError, IntegrityError, UserError
from rayplat.core.project.window import KINDS
from rayplat.features.aggregates import distinct, quantile
from rayplat.features.aggregates.accumulator import Accumulator
from rayplat.features.aggregates.values import column, output_dtype, values_of
from tests.features import oracle
from tests.features.aggregates.nasty import FLOATS, INTEGERS, TEXTS, same

ALL = frozenset(KINDS)
ORDERED = frozenset({"count", "min", "max", "first", "last", "nunique"})
CASES = st.one_of(
    st.tuples(st.just(pl.Float64()), st.just(ALL), st.lists(FLOATS, max_size=12)),
    st.tuples(st.just(pl.Int64()), st.just(ALL), st.lists(INTEGERS, max_size=12)),
    st.tuples(st.just(pl.String()), st.just(ORDERED), st.lists(TEXTS, max_size=12)),
    st.tuples(st.just(pl.Boolean()), st.just(ALL), st.lists(st.booleans(), max_size=12)),
)


def filled(kinds, dtype, rows):
    state = Accumulator(kinds, dtype)
    state.update([value for value, _ in rows], [rank for _, rank in rows])
    return state


@settings(max_examples=300, deadline=None)
@given(CASES, st.randoms(use_true_random=False))
def test_parts_merged_in_any_order_are_the_oracle_and_have_the_same_bytes(case, rng: random.Random):
    dtype, kinds, raw = case
    values = values_of(pl.Series(raw, dtype=dtype))
    assert all(map(same, values, [value if isinstance(value, str) else value + 0 for value in raw]))
    rows = [(value, (i // 2, i % 2, i, 0)) for i, value in enumerate(values)]
    whole = filled(kinds, dtype, rows)
    shuffled = rng.sample(rows, len(rows))
    cut = sorted(rng.choices(range(len(rows) + 1), k=3))
    parts = [filled(kinds, dtype, shuffled[a:b]) for a, b in zip([0, *cut], [*cut, len(rows)], strict=True)]
    merged = Accumulator(kinds, dtype)
    for part in rng.sample(parts, len(parts)):
        merged.merge(Accumulator.from_bytes(kinds, dtype, part.to_bytes()))
    assert merged.to_bytes() == whole.to_bytes()
    for kind in kinds - {"quantile", "sum"}:
        assert same(whole.result(kind), oracle.KINDS[kind](values)), kind
    if "quantile" in kinds:
        assert same(whole.result("quantile", 0.7), oracle.quantile([float(v) for v in values], 0.7))
        if not -(2**63) <= (total := sum(values) if dtype != pl.Float64 else 0) < 2**63:
            with pytest.raises(UserError, match=str(total)):
                whole.result("sum")
        else:
            assert (
                whole.result("sum") == total
                if dtype != pl.Float64
                else same(whole.result("sum"), oracle.KINDS["sum"]([0.0, *values]))
            )


def test_distinct_values_are_counted_up_to_1024_and_estimated_beyond():
    state = Accumulator(frozenset({"nunique"}), pl.Int64())
    state.update(list(range(1024)) * 2)
    assert state.result("nunique") == 1024
    for count in (5_000, 100_000):
        state.update(list(range(count)))
        assert state.result("nunique") == pytest.approx(count, rel=0.1)


def test_hashes_of_columns_are_hashes_of_values():
    for values in ([1.5, -0.0, math.nan, 1e300], [1, -(2**63), 2**63 - 1], ["a", "", "\u00e9"]):
        column = pl.Series(values)
        assert distinct.hashes(column).tolist() == [distinct.hash_of(value) for value in values]
    assert distinct.hash_of(1) == 0x910A2DEC89025CC1, "the hash is part of what is stored: it may not change"


@given(st.lists(FLOATS.filter(lambda x: not math.isnan(x)), min_size=1, max_size=8))
def test_bins_of_columns_are_bins_of_values_and_rise_with_them(values):
    found = quantile.bins(pl.Series(values).to_numpy()).tolist()
    assert found == [quantile.bin_of(value) for value in values]
    pairs = sorted(zip(values, found, strict=True))
    assert [index for _, index in pairs] == sorted(found)
    middles = quantile.bin_values(pl.Series(found).to_numpy()).tolist()
    assert all(same(a, quantile.bin_value(b) + 0.0) for a, b in zip(middles, found, strict=True))


@given(st.floats(2.3e-308, 1.7e308), st.sampled_from([1, -1]))
def test_a_quantile_is_within_one_percent(size, sign):
    value = size * sign
    assert abs(quantile.bin_value(quantile.bin_of(value)) - value) <= abs(value) / 128


@pytest.mark.parametrize(
    ("kind", "dtype", "out"),
    [
        ("sum", pl.Float32(), pl.Float64()),
        ("sum", pl.Int16(), pl.Int64()),
        ("sum", pl.Boolean(), pl.Int64()),
        ("mean", pl.Int64(), pl.Float64()),
        ("max", pl.Float32(), pl.Float32()),
        ("min", pl.Boolean(), pl.Boolean()),
        ("last", pl.Datetime("us", "UTC"), pl.Datetime("us", "UTC")),
        ("nunique", pl.String(), pl.Int64()),
        ("first", pl.Null(), pl.Float64()),
    ],
)
def test_each_kind_has_one_type_for_each_type_of_values(kind, dtype, out):
    assert output_dtype(kind, dtype) == out
    assert column("f", kind, dtype, [None]).dtype == out


@pytest.mark.parametrize(
    ("kind", "dtype"), [("sum", pl.String()), ("count", pl.UInt64()), ("mean", pl.Date())]
)
def test_values_that_do_not_aggregate_are_refused(kind, dtype):
    with pytest.raises(UserError, match="window aggregate"):
        Accumulator(frozenset({kind}), dtype)


def test_states_that_were_cut_or_lengthened_are_refused():
    state = filled(ALL, pl.Float64(), [(1.5, (1, 2, 3, 0))]).to_bytes()
    for data in (state[:-1], state + b"\0", b""):
        with pytest.raises(IntegrityError):
            Accumulator.from_bytes(ALL, pl.Float64(), data)


def test_only_what_was_declared_is_answered():
    with pytest.raises(BugError, match="mean"):
        Accumulator(frozenset({"sum"}), pl.Float64()).result("mean")
    with pytest.raises(BugError, match="ranks"):
        Accumulator(frozenset({"last"}), pl.Float64()).update([1.0])
