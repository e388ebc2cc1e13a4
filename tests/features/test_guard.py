"""What a training set refuses because it would know the label, and what it warns of."""

from dataclasses import replace

import polars as pl
import pytest

from rayplat.core.errors import UserError
from rayplat.core.events import EventBus, FeatureSuspected
from rayplat.core.project.table import Column
from rayplat.features.guard import all_views, columns_of, guard, guard_questions
from rayplat.features.training_set import build_training_set
from tests.features.fakes import FakeLake
from tests.features.test_training_set import ENDS, RECENT, TRIP, TRIPS, declare, ends, trips
from tests.features.worlds import hour, project


def on_demand(source, **features):
    return project().on_demand_view("mixed", views=[RECENT], source=source, features=features)


def test_an_on_demand_view_may_not_read_the_table_of_the_label():
    view = on_demand(ENDS, leak=pl.col("late"))
    with pytest.raises(UserError, match="tells the label"):
        guard(declare(features=[view]))


def test_the_views_behind_an_on_demand_view_are_held_to_the_same():
    bare = replace(RECENT, source=replace(ENDS, known_at=None))
    view = project().on_demand_view("mixed", views=[bare], features={"n": pl.col("recent__n") * 2})
    with pytest.raises(UserError, match="does not say when its rows are known"):
        guard(declare(features=[view]))


def test_columns_of_features_are_told_through_views_of_views():
    view = on_demand(TRIPS, ratio=pl.col("recent__late") / pl.col("km"))
    assert columns_of(view) == {"mixed__ratio": ("raw.ends.late", "raw.trips.km")}
    assert [v.name for v in all_views(declare(features=[TRIP, view]))] == ["trip", "recent", "mixed"]


def test_columns_that_are_known_only_after_the_question_are_refused():
    late = replace(TRIPS, columns={**TRIPS.columns, "told": Column("timestamp")}, known_at="told")
    view = replace(TRIP, source=late)
    model = declare(rows=late, features=[view])
    asked = trips((1, "a", 1, 5.0), (2, "a", 4, 2.0))
    known = asked.with_columns(told=pl.col("starts"))
    guard_questions(model, known)
    with pytest.raises(UserError, match=r"1 of 2 rows .*known only after they ask.*km"):
        guard_questions(
            model, known.with_columns(told=pl.when(trip=2).then(pl.lit(hour(5))).otherwise("starts"))
        )
    guard_questions(declare(rows=late, features=[RECENT]), known.with_columns(told=pl.lit(hour(9))))


def world(*told):
    lake = FakeLake()
    lake.tell("raw.trips", trips((1, "a", 1, 5.0), (2, "a", 4, 20.0), (3, "a", 6, 3.0), (4, "a", 11, 30.0)))
    lake.tell("raw.ends", ends(*told))
    return lake


def test_a_question_that_is_asked_when_its_outcome_is_known_is_refused():
    lake = world((1, "a", 2, 3, 9.0), (2, "a", 3, 4, 1.0), (4, "a", 13, 14, 6.0))
    with pytest.raises(UserError, match=r"1 of 3 questions .*asked when the label is known: \{'trip': 2\}"):
        build_training_set(lake, declare(), EventBus())


def test_a_feature_that_tells_the_label_is_suspected_and_stays_so():
    lake = world((1, "a", 2, 3, 1.0), (2, "a", 5, 6, 9.0), (3, "a", 7, 8, 2.0), (4, "a", 13, 14, 6.0))
    bus, heard = EventBus(), []
    bus.subscribe(FeatureSuspected, heard.append)
    built = build_training_set(lake, declare(), bus)
    names = {s.feature for s in built.suspects}
    assert "trip__km" in names
    assert {event.feature for event in heard} == names
    suspect = next(s for s in built.suspects if s.feature == "trip__km")
    assert (suspect.auc, suspect.rows, suspect.reads) == (1.0, 3, ("raw.trips.km",))
    assert build_training_set(lake, declare(), bus) == built
    assert len(heard) == len(names)


def test_the_area_from_which_on_a_feature_is_suspected_is_declared():
    lake = world((1, "a", 2, 3, 1.0), (2, "a", 5, 6, 9.0), (3, "a", 7, 8, 2.0), (4, "a", 13, 14, 6.0))
    assert build_training_set(lake, declare(suspect_auc=1.01), EventBus()).suspects == ()
