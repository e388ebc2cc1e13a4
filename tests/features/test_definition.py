"""Descriptions, digests and refusals."""

import subprocess
import sys
from datetime import timedelta

import polars as pl
import pytest

from rayplat.core.errors import UserError
from rayplat.core.project.window import window
from rayplat.features.definition import describe, digest
from rayplat.features.plan import plan
from tests.features.worlds import latest_view, project, source_table, window_view

_PRINT = """
from datetime import timedelta
from tests.features.worlds import latest_view, window_view
from rayplat.features.definition import digest
print(digest(latest_view(timedelta(hours=3))), digest(window_view()))
"""


def test_a_digest_is_the_same_in_another_process():
    here = [digest(latest_view(timedelta(hours=3))), digest(window_view())]
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _PRINT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == here


def test_a_digest_changes_with_whatever_changes_a_value():
    def view(expr=None, ttl=None, known_at="known", name="raw.events", **more):
        features = {more.get("feature", "f"): pl.col("x") if expr is None else expr}
        table = source_table(name, known_at)
        entity = more.get("entity", "entity")
        return project().feature_view("v", source=table, entity=entity, ttl=ttl, features=features)

    digests = [
        digest(v)
        for v in (
            view(),
            view(pl.col("x") + 1),
            view(ttl=timedelta(hours=1)),
            view(known_at=None),
            view(name="raw.others"),
            view(feature="g"),
            view(entity=("entity", "x")),
            view(window("3h").mean("x")),
            view(window("4h").mean("x")),
        )
    ]
    assert len(set(digests)) == len(digests)


def test_a_digest_does_not_change_with_words_for_people():
    table = source_table()
    views = [
        project().feature_view(
            "v", source=table, entity="entity", features={"f": pl.col("x")}, description=text
        )
        for text in ("one", "two")
    ]
    assert digest(views[0]) == digest(views[1])


def test_a_description_tells_windows_inputs_and_ttl():
    told = describe(window_view(["5h"]))
    assert told["inputs"] == ["x"]
    assert {f["window_us"] for f in told["features"]} == {5 * 3600 * 1_000_000}
    assert describe(latest_view(timedelta(hours=3)))["ttl_us"] == 3 * 3600 * 1_000_000


@pytest.mark.parametrize(
    "expr",
    [
        pl.col("x") - pl.col("x").mean(),
        pl.col("x").shift(1),
        pl.col("x").cum_sum(),
        pl.col("x").rank(),
        pl.col("x").over("entity"),
        pl.col("x").sort(),
        pl.col("x").explode(),
        pl.lit(pl.Series([1, 2])),
        pl.len(),
    ],
)
def test_a_row_transform_that_reads_other_rows_is_refused(expr):
    view = project().feature_view("v", source=source_table(), entity="entity", features={"f": expr})
    with pytest.raises(UserError, match="reads more than its own row"):
        plan(view)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"f": pl.col("x").map_elements(abs, return_dtype=pl.Float64)}, "calls a Python function"),
        ({"f": pl.col("^x.*$") + 1}, "selects columns by pattern"),
        ({"f": window("3h").agg(pl.col("x") + 1)}, "does not reduce its window"),
        ({"f": window("3h").mean("x"), "g": pl.col("x")}, "mixes row transforms and windows"),
    ],
)
def test_other_definitions_that_cannot_be_trusted_are_refused(features, message):
    view = project().feature_view("v", source=source_table(), entity="entity", features=features)
    with pytest.raises(UserError, match=message):
        plan(view)


def test_windows_and_ttl_need_an_event_time():
    table = project().table("raw.planes", columns={"tail": "string", "year": "int64"}, key="tail")
    for more in (
        {"features": {"f": window("3h").mean("year")}},
        {"ttl": timedelta(1), "features": {"f": pl.col("year")}},
    ):
        with pytest.raises(UserError, match="no event time"):
            plan(project().feature_view("v", source=table, entity="tail", **more))


@pytest.mark.parametrize(
    "expr",
    [
        pl.lit(1.0),
        pl.when(pl.col("x") > 1).then(1).otherwise(pl.col("x")),
        pl.col("entity").is_in(["a", "b"]),
        pl.col("entity").replace_strict({"a": 1}, default=None),
        pl.col("event").dt.convert_time_zone("America/New_York").dt.hour(),
        pl.max_horizontal("x", pl.col("x") * 2),
        pl.col("x").fill_null(0).cast(pl.Float32).clip(0, 1),
    ],
)
def test_ordinary_row_transforms_pass(expr):
    planned = plan(project().feature_view("v", source=source_table(), entity="entity", features={"f": expr}))
    assert list(planned.rows) == ["v__f"]
