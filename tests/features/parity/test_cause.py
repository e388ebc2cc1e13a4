"""The cause of a difference is found too where the hypotheses together have more rows than are sorted."""

from datetime import timedelta

import numpy as np
import polars as pl

from rayplat.features.parity.cause import Case, explain
from rayplat.features.parity.recompute import AT
from rayplat.features.parity.report import Kind
from rayplat.features.point_in_time import FEW, join
from tests.features.parity.world import LAST, RECENT
from tests.features.worlds import SOURCE_SCHEMA, hour


def rows(count, first, apart):
    """Rows of one entity, known when they happen."""
    at = [hour(first) + apart * i for i in range(count)]
    made = {
        "entity": ["e"] * count,
        "event": at,
        "known": at,
        "x": np.random.default_rng(5).normal(size=count),
        "_partition": [0] * count,
        "_offset": range(count),
    }
    return pl.DataFrame(made, schema=SOURCE_SCHEMA)


def served(view, source, at):
    return join(pl.DataFrame({"entity": ["e"], AT: [at]}), AT, view, source).select(view.names)


def test_the_row_that_counts_twice_is_named_among_hundreds_of_a_window():
    source = rows(300, 8, timedelta(seconds=40))
    again = source[290].with_columns(pl.lit(1, pl.Int32).alias("_partition"))
    told = served(RECENT, pl.concat([source, again]), hour(12))
    found = explain(Case(RECENT, hour(12), source.with_columns(had=pl.lit(value=True)), told))
    assert set(found) == {"recent__sum", "recent__count", "recent__mean"}
    assert {(c.kind, c.partition, c.offset) for c in found.values()} == {(Kind.EXTRA, 0, 290)}


def test_rows_that_had_not_happened_are_named_however_many_they_are():
    source = rows(FEW + 10_000, 0, timedelta(seconds=1))
    at = hour(1)
    told = served(LAST, source, hour(17))
    found = explain(Case(LAST, at, source.with_columns(had=pl.lit(value=True)), told))
    assert {cause.kind for cause in found.values()} == {Kind.EXTRA}
    assert f"had not happened at {at.isoformat()}" in found["last__x"].text
    assert (found["last__x"].partition, found["last__x"].offset) == (0, 3601)
