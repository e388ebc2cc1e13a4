"""Versions of definitions: applied once, kept for ever, given back as they were."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from rayplat.core.errors import IntegrityError, UserError
from rayplat.core.events import Event, EventBus
from rayplat.core.project.project import Project
from rayplat.core.project.view import python
from rayplat.core.project.window import window
from rayplat.core.settings import Settings
from rayplat.features.definition import describe_as_asked, digest, digest_as_asked
from rayplat.features.differences import differences
from rayplat.features.restore import restore
from rayplat.features.versions import FeatureVersions
from tests.features.worlds import source_table


def _settings(folder: Path) -> Settings:
    return Settings(home=folder, database=f"sqlite:///{folder}/state.db")


def _half(x: pl.Series) -> pl.Series:
    return x / 2


def _project(length: str = "3h", *, scale: float = 2.0) -> Project:
    made = Project("tests", owner="tests@example.com")
    table = source_table()
    made.tables.append(table)
    made.feature_view("recent", source=table, entity="entity", features={"sum": window(length).sum("x")})
    last = made.feature_view(
        "last",
        source=table,
        entity="entity",
        ttl=timedelta(hours=3),
        defaults={"x": 0.5, "seen": datetime(2020, 1, 1, tzinfo=UTC)},
        tags={"team": "a"},
        features={"x": pl.col("x") * scale, "seen": pl.col("event")},
    )
    made.add_view(last.with_name("theirs").with_join_key_map({"entity": "friend"}))
    made.request_view("asked", source=table, features={"late": pl.col("event").dt.hour() > 12})
    ratio = {"ratio": pl.col("x") / pl.col("last__x")}
    made.on_demand_view("against", views=[last], source=table, features=ratio)
    shapes = window("6h", every="1h", where=pl.col("x") > 0)
    made.feature_view(
        "shapes",
        source=table,
        entity="entity",
        features={"q": shapes.quantile("x", 0.9), "skew": window("2h").agg(pl.col("x").skew())},
    )
    return made


def test_a_restored_view_is_described_as_it_was():
    for view in _project().views:
        described = describe_as_asked(view)
        again = restore(described)
        assert describe_as_asked(again) == described
        assert (again.name, again.names, again.inputs) == (view.name, view.names, view.inputs)
        assert digest(again) == digest(view)


def test_a_restored_view_is_read_back_from_json_of_the_database(tmp_path):
    versions = FeatureVersions(_settings(tmp_path))
    made = _project()
    versions.apply(made, "me")
    for view in made.views:
        stored = versions.by_digest(digest_as_asked(view))
        assert digest_as_asked(restore(stored.described)) == digest_as_asked(view)
    assert versions.by_digest("none") is None


def test_applying_again_does_nothing_and_a_change_is_a_new_version(tmp_path):
    versions = FeatureVersions(_settings(tmp_path))
    assert {c.kind for c in versions.compare(_project())} == {"new"}
    assert [(c.kind, c.version) for c in versions.apply(_project(), "me")] == [("new", 1)] * 6
    assert {c.kind for c in versions.apply(_project(), "you")} == {"same"}
    changed = {c.view: c for c in versions.apply(_project("4h"), "you") if c.kind != "same"}
    assert list(changed) == ["recent"]
    assert changed["recent"].version == 2
    assert changed["recent"].differences == ("feature 'sum': window 3:00:00 -> 4:00:00 changed",)
    back = versions.apply(_project(), "me")[0]
    assert (back.kind, back.version) == ("changed", 3)
    told = versions.history("tests", "recent")
    assert [(v.version, v.applied_by) for v in told] == [(1, "me"), (2, "you"), (3, "me")]
    assert told[0].digest == told[2].digest != told[1].digest
    assert versions.history("tests", "last")[0].about["tags"] == {"team": "a"}


def test_a_change_below_is_a_change_of_what_is_made_of_it(tmp_path):
    versions = FeatureVersions(_settings(tmp_path))
    versions.apply(_project(), "me")
    changed = {c.view: c for c in versions.compare(_project(scale=3.0)) if c.kind != "same"}
    assert list(changed) == ["last", "theirs", "against"]
    assert changed["against"].differences == ("view 'last': feature 'x': its expression changed",)


def test_a_view_that_is_gone_is_told_and_stays(tmp_path):
    versions = FeatureVersions(_settings(tmp_path))
    versions.apply(_project(), "me")
    smaller = _project()
    smaller.views = smaller.views[1:]
    assert [(c.view, c.kind) for c in versions.compare(smaller)][-1] == ("recent", "gone")
    versions.apply(smaller, "me")
    assert len(versions.history("tests", "recent")) == 1


def test_applying_at_once_makes_each_version_once(tmp_path):
    settings = _settings(tmp_path)
    FeatureVersions(settings).apply(_project(), "me")
    changed = _project("5h", scale=7.0)

    def once(who: int) -> None:
        FeatureVersions(settings).apply(changed, f"user {who}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(8)))
    versions = FeatureVersions(settings)
    assert [v.version for v in versions.history("tests", "recent")] == [1, 2]
    assert [v.version for v in versions.history("tests", "last")] == [1, 2]


_KILLED = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from rayplat.features.versions import FeatureVersions
from tests.features.test_versions import _project, _settings
versions = FeatureVersions(_settings(Path(sys.argv[1])))
def die(connection, cursor, statement, parameters, context, executemany):
    if statement.startswith("INSERT"):
        os.kill(os.getpid(), signal.SIGKILL)
sa.event.listen(versions._engine, "after_cursor_execute", die)
versions.apply(_project(), "me")
"""


def test_a_kill_while_it_writes_leaves_nothing_half(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
        timeout=60,
    )
    assert done.returncode == -9
    versions = FeatureVersions(_settings(tmp_path))
    assert versions.history("tests", "recent") == []
    assert {c.kind for c in versions.apply(_project(), "me")} == {"new"}


def test_the_asking_columns_are_part_of_what_a_model_depends_on():
    views = {view.name: view for view in _project().views}
    assert digest(views["theirs"]) == digest(views["last"])
    assert digest_as_asked(views["theirs"]) != digest_as_asked(views["last"])
    assert digest_as_asked(views["last"]) == digest(views["last"])


def test_a_python_feature_is_versioned_and_not_restored():
    made = Project("tests", owner="x")
    features = {"half": python(_half, inputs="x", type="float64", version="1")}
    view = made.feature_view("py", source=source_table(), entity="entity", features=features)
    with pytest.raises(UserError, match="'half' of view 'py' is a Python function"):
        restore(describe_as_asked(view))
    features = {"half": python(_half, inputs="x", type="float64", version="2")}
    other = made.feature_view("py", source=source_table(), entity="entity", features=features)
    assert differences(describe_as_asked(view), describe_as_asked(other)) == (
        "feature 'half': version 1 -> 2 changed",
    )


def test_whoever_listens_hears_of_each_version_that_was_made_and_of_nothing_else(tmp_path):
    heard: list[Event] = []
    bus = EventBus()
    bus.subscribe(Event, heard.append)
    versions = FeatureVersions(_settings(tmp_path))
    versions.apply(_project(), "me", bus=bus)
    first = len(heard)
    versions.apply(_project(), "me", bus=bus)
    versions.apply(_project("4h"), "you", bus=bus)
    assert first == len(_project().views)
    (changed,) = heard[first:]
    assert (changed.view, changed.before, changed.version, changed.actor) == ("recent", 1, 2, "you")
    assert versions.by_digest(changed.digest).version == changed.version


def test_a_description_of_another_polars_is_told():
    described = describe_as_asked(_project().views[1])
    described["features"][0]["expr"] = {"Nonsense": 3}
    with pytest.raises(IntegrityError, match="is not one of Polars"):
        restore(described)


def test_every_difference_is_told():
    made = Project("tests", owner="x")
    table = source_table()
    before = made.feature_view(
        "v", source=table, entity="entity", features={"a": pl.col("x"), "b": pl.col("x")}
    )
    after = made.feature_view(
        "v",
        source=source_table(known_at=None),
        entity=("entity", "x"),
        ttl=timedelta(hours=1),
        defaults={"c": 1.0},
        features={"b": pl.col("x") + 1, "c": pl.col("x")},
    )
    told = " | ".join(differences(describe_as_asked(before), describe_as_asked(after)))
    wanted = (
        "entity:",
        "ttl: none -> 1:00:00",
        "defaults:",
        "known_at: known -> None",
        "'a': removed",
        "'c': new",
    )
    assert all(part in told for part in wanted), told
    swapped = made.feature_view(
        "v", source=table, entity="entity", features={"b": pl.col("x"), "a": pl.col("x")}
    )
    assert differences(describe_as_asked(before), describe_as_asked(swapped)) == (
        "the order of the features changed",
    )
