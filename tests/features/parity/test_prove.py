"""Served vectors are proved against the lakehouse; a planted fault is named."""

import random
from dataclasses import replace
from datetime import timedelta

import orjson
import polars as pl
import pytest

from rayplat.core.project.window import window
from rayplat.features.parity.prove import prove
from rayplat.features.parity.report import Kind
from rayplat.features.parity.vectors import FeatureVectors, Predictions
from tests.features.oracle import Event
from tests.features.parity.world import LAST, RECENT, VIEWS, replay
from tests.features.worlds import hour


@pytest.fixture
def seed():
    drawn = random.randrange(2**32)
    print(f"seed {drawn}")
    return drawn


def proved(made, views=VIEWS, **options):
    return prove(made.lake, views, FeatureVectors(made.lake), **options)


def test_every_vector_is_identical_with_late_rows_ties_and_repetition(tmp_path, seed):
    made = replay(tmp_path, seed)
    report = proved(made)
    assert report.vectors == made.served
    assert report.mismatches == {}
    assert report.findings == ()
    assert report.identical + report.lagging == made.served
    assert report.proven


def test_a_store_that_is_behind_lags_and_does_not_differ(tmp_path, seed):
    made = replay(tmp_path, seed, behind=2)
    report = proved(made)
    assert report.different == 0
    assert report.lagging > 0
    assert {f.cause.kind for f in report.stale} == {Kind.STALE}
    assert all(f.cause.offset is not None for f in report.stale)


def causes(report):
    return {f.feature: f.cause.kind for f in report.findings}


def only_in_time(rows):
    """A store that drops rows that come late."""
    return [row for row in rows if row.known == row.event]


def first_told(rows):
    """A store that takes a row for known already when another has the same content."""
    kept = {}
    for row in rows:
        kept.setdefault((row.entity, row.event, row.x), row)
    return list(kept.values())


def twice(rows):
    """A store that counts one row in five twice."""
    again = [
        Event(row.entity, row.event, row.known, 2, row.partition * 10_000 + row.offset, row.x)
        for row in rows
        if row.offset % 5 == 0
    ]
    return [*rows, *sorted(again, key=lambda row: row.offset)]


def early(rows):
    """A store that takes late rows for known when they happened."""
    return [replace(row, known=row.event) for row in rows]


@pytest.mark.parametrize(
    ("distort", "feature", "kind"),
    [
        (only_in_time, "recent__count", Kind.MISSING),
        (only_in_time, "last__x", Kind.MISSING),
        (twice, "recent__count", Kind.EXTRA),
        (twice, "recent__sum", Kind.EXTRA),
    ],
)
def test_a_store_with_wrong_rows_is_found_and_the_row_is_named(tmp_path, seed, distort, feature, kind):
    made = replay(tmp_path, seed, distort=distort)
    report = proved(made)
    assert not report.proven
    finding = next(f for f in report.findings if f.feature == feature)
    assert finding.cause.kind == kind, finding
    assert finding.cause.offset is not None
    assert report.mismatches[feature] == finding.vectors


def with_features(view, **features):
    return replace(view, features={**view.features, **features})


@pytest.mark.parametrize(
    ("served", "feature", "kind"),
    [
        (with_features(LAST, twice=pl.col("x") * 2 + 0.5), "last__twice", Kind.DEFINITION),
        (replace(LAST, ttl=timedelta(hours=9)), "last__x", Kind.DEFINITION),
        (with_features(RECENT, sum=window("5h").sum("x")), "recent__sum", Kind.DEFINITION),
    ],
)
def test_a_changed_definition_is_named_by_its_digest(tmp_path, seed, served, feature, kind):
    made = replay(tmp_path, seed, served_by={served.name: served})
    report = proved(made)
    assert causes(report)[feature] == kind


@pytest.mark.parametrize(
    ("served", "feature", "kind"),
    [
        (with_features(LAST, twice=pl.col("x") * 2 + 0.5), "last__twice", Kind.VALUE),
        (replace(LAST, ttl=timedelta(hours=9)), "last__x", Kind.RULE),
        (replace(LAST, ttl=timedelta(hours=2)), "last__x", Kind.RULE),
        (with_features(RECENT, count=window("5h").count("x")), "recent__count", Kind.EXTRA),
        (with_features(RECENT, count=window("3h").count("x")), "recent__count", Kind.MISSING),
        (with_features(RECENT, sum=window("4h").sum(pl.col("x") * 3)), "recent__sum", Kind.VALUE),
    ],
)
def test_a_fault_of_the_online_code_is_named(tmp_path, seed, served, feature, kind):
    """The log says the right definition, but the online path computes another one."""
    made = replay(tmp_path, seed, served_by={served.name: served}, told_as=True)
    report = proved(made)
    assert causes(report)[feature] == kind, report.findings


def test_only_a_view_a_period_or_a_sample_is_proved(tmp_path, seed):
    made = replay(tmp_path, seed)
    assert set(proved(made, only=["last"]).mismatches) == set()
    assert proved(made, sample=20).vectors == 20
    assert proved(made, sample=20, seed=3).vectors == 20
    half = proved(made, start=hour(10), end=hour(20))
    assert 0 < half.vectors < made.served


def test_a_feature_that_the_project_lacks_now_is_a_difference(tmp_path, seed):
    made = replay(tmp_path, seed)
    report = proved(made, views=[RECENT])
    assert causes(report) == {"last__x": Kind.DEFINITION, "last__twice": Kind.DEFINITION}


def test_a_default_that_is_not_applied_is_named(tmp_path, seed):
    views = [replace(LAST, defaults={"x": -1.0}), RECENT]
    made = replay(tmp_path, seed, views, served_by={"last": LAST}, told_as=True)
    assert causes(proved(made, views)) == {"last__x": Kind.RULE}


def predictions(made, told=True):
    """The same vectors as the prediction log holds them: NaN is null, and only answers have provenance."""
    rows = pl.DataFrame(made.lake.table("serving.feature_vectors").read())
    standing = [orjson.loads(text) for text in rows["views"].to_list()]
    features = [orjson.loads(text) for text in rows["features"].to_list()]
    provenance = [
        {
            "last": {"snapshot_id": s["last"]["snapshot_id"]} if told and f["last__x"] is not None else None,
            "recent": {"snapshot_id": s["recent"]["snapshot_id"]} if told and f["recent__count"] else None,
        }
        for s, f in zip(standing, features, strict=True)
    ]
    table = rows.select(
        pl.col("vector_id").alias("prediction_id"),
        pl.lit("e").alias("endpoint"),
        "at",
        "request",
        "features",
        pl.Series("provenance", [orjson.dumps(p).decode() for p in provenance]),
    ).to_arrow(compat_level=pl.CompatLevel.oldest())
    made.lake.ensure_schema("serving.predictions", table.schema).append(table)
    return Predictions(made.lake, "e")


def test_the_features_of_predictions_are_proved_too(tmp_path, seed):
    made = replay(tmp_path, seed, behind=1)
    report = prove(made.lake, VIEWS, predictions(made))
    assert (report.vectors, report.different) == (made.served, 0), report.findings
    assert prove(made.lake, VIEWS, Predictions(made.lake, "other")).vectors == 0


def test_without_provenance_the_newest_rows_are_what_could_be_known(tmp_path, seed):
    made = replay(tmp_path, seed)
    report = prove(made.lake, VIEWS, predictions(made, told=False))
    late = replay(tmp_path / "behind", seed, behind=3)
    assert report.different <= prove(late.lake, VIEWS, predictions(late, told=False)).different


def test_rows_that_were_erased_since_are_read_where_they_were(tmp_path, seed):
    made = replay(tmp_path, seed)
    table = made.lake.table("raw.events")
    table.overwrite(pl.DataFrame(table.read()).filter(pl.col("entity") != "e1").to_arrow())
    assert proved(made).proven


def test_a_source_that_was_made_anew_proves_nothing(tmp_path, seed):
    made = replay(tmp_path, seed)
    table = made.lake.table("raw.events")
    table.snapshots = [replace(s, snapshot_id=s.snapshot_id + 5000) for s in table.snapshots]
    table.rows = {number + 5000: rows for number, rows in table.rows.items()}
    report = proved(made)
    assert not report.proven
    assert (report.identical, report.different) == (0, 0)
    assert report.unproven == {"last": made.served, "recent": made.served}


def test_a_filter_that_the_online_path_forgets_is_named(tmp_path, seed):
    filtered = with_features(RECENT, count=window("4h", where=pl.col("x") > 0).count("x"))
    made = replay(tmp_path, seed, [LAST, filtered], served_by={"recent": RECENT}, told_as=True)
    finding = proved(made, [LAST, filtered]).findings[0]
    assert finding.cause.kind == Kind.VALUE
    assert "filters" in finding.cause.text
