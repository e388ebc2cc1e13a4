"""Incremental materialization over a small lakehouse in memory."""

from pathlib import Path

import polars as pl
import pytest

from rayplat.core.errors import ConflictError, IntegrityError, NotFoundError, UserError
from rayplat.core.events import EventBus
from rayplat.features.backfill import backfill
from rayplat.features.materialize import FeaturesMaterialized, materialize
from rayplat.features.online.apply import apply_rows, progress_of
from rayplat.features.online.lmdb_store import LmdbOnlineStore
from rayplat.features.online.store import Progress
from rayplat.features.serving import get_online_features
from tests.features.fakes import FakeLake
from tests.features.oracle import Event
from tests.features.worlds import (
    SOURCE_SCHEMA,
    events,
    frame,
    hour,
    latest_view,
    project,
    window_view,
)


@pytest.fixture
def store(tmp_path: Path):
    opened = LmdbOnlineStore(f"lmdb:///{tmp_path}/online.db")
    yield opened
    opened.close()


def ask(store, views, at, entity="a"):
    return get_online_features(store, views, [{"entity": entity}], at)


def test_only_new_rows_are_read_and_nothing_when_there_is_nothing_new(store):
    lake, view = FakeLake(), latest_view()
    world = frame(events(("a", 1, 1, 1.0), ("a", 2, 2, 2.0), ("a", 3, 3, 3.0)))
    lake.tell("raw.events", world[:2])
    assert [(r.rows, r.entities, r.offsets) for r in materialize(lake, store, [view])] == [(2, 1, {"0": 2})]
    assert [(r.rows, r.entities) for r in materialize(lake, store, [view])] == [(0, 0)]
    lake.tell("raw.events", world[2:])
    report = materialize(lake, store, [view])[0]
    assert (report.rows, report.offsets, report.snapshot_id) == (1, {"0": 3}, 1001)
    assert lake.table("raw.events").reads[-1]["where"] == "(_partition = 0 and _offset >= 2 and _offset < 3)"
    assert ask(store, [view], hour(3)).frame.row(0)[0] == 3
    # The store is ahead of a question about hour 2, and still answers what was known then.
    assert ask(store, [view], hour(2)).frame.row(0)[0] == 2


def test_a_late_row_is_read_when_it_comes_and_corrects_the_window(store):
    lake, view = FakeLake(), window_view(["5h"])
    world = frame(events(("a", 1, 1, 1.0), ("a", 3, 3, 4.0), ("a", 2, 4, 2.0)))
    lake.tell("raw.events", world[:2])
    materialize(lake, store, [view])
    assert ask(store, [view], hour(3)).frame.get_column("recent__sum_5h").item() == 5
    lake.tell("raw.events", world[2:])
    materialize(lake, store, [view])
    assert ask(store, [view], hour(3)).frame.get_column("recent__sum_5h").item() == 5
    assert ask(store, [view], hour(4)).frame.get_column("recent__sum_5h").item() == 7


def test_steps_end_at_commits_and_give_the_same_values(store, tmp_path):
    lake, view = FakeLake(), window_view()
    world = frame(events(*(("ab"[i % 2], i, i, float(i)) for i in range(50))))
    for start in range(0, 50, 5):
        lake.tell("raw.events", world[start : start + 5])
    materialize(lake, store, [view], step_rows=12)
    wheres = [read["where"] for read in lake.table("raw.events").reads]
    assert [w.split("_offset ")[1:] for w in wheres[:2]] == [[">= 0 and ", "< 15)"], [">= 15 and ", "< 30)"]]
    other = LmdbOnlineStore(f"lmdb:///{tmp_path}/other.db")
    materialize(lake, other, [view])
    for entity in "ab":
        assert ask(store, [view], hour(49), entity).frame.equals(ask(other, [view], hour(49), entity).frame)
    other.close()


def test_an_empty_source_answers_that_nothing_is_known_and_grows(store):
    lake, views = FakeLake(), [latest_view(), window_view(["5h"])]
    lake.ensure_schema("raw.events", pl.DataFrame(schema=SOURCE_SCHEMA).to_arrow().schema)
    materialize(lake, store, views)
    answered = ask(store, views, hour(1))
    assert answered.frame.row(0)[:4] == (None, None, None, 0)
    assert answered.provenance == [{"last": None, "recent": None}]
    lake.tell("raw.events", frame(events(("a", 1, 1, 1.0))))
    materialize(lake, store, views)
    assert ask(store, views, hour(1)).frame.row(0)[:4] == (1, False, 2, 1)


def test_a_reference_table_is_read_whole_when_its_snapshot_changes(store):
    lake = FakeLake()
    table = project().table("raw.planes", columns={"tail": "string", "year": "int64"}, key="tail")
    view = project().feature_view("plane", source=table, entity="tail", features={"year": pl.col("year")})

    def tell(rows):
        data = pl.DataFrame(rows, schema={"tail": pl.String, "year": pl.Int64}, orient="row").to_arrow(
            compat_level=pl.CompatLevel.oldest()
        )
        lake.ensure_schema("raw.planes", data.schema).overwrite(data)

    def years(*tails):
        requests = [{"tail": tail} for tail in tails]
        return get_online_features(store, [view], requests, hour(0)).frame.get_column("plane__year").to_list()

    tell([("n1", 1990), ("n2", 2000)])
    assert materialize(lake, store, [view])[0].rows == 2
    assert materialize(lake, store, [view])[0].rows == 0
    assert years("n2", None, "n1", "n3") == [2000, None, 1990, None]
    tell([("n1", 1991), ("n3", 2003)])
    assert materialize(lake, store, [view])[0].rows == 2
    assert years("n1", "n2", "n3") == [1991, None, 2003]


def test_an_event_tells_what_was_materialized(store):
    lake, bus, heard = FakeLake(), EventBus(), []
    bus.subscribe(FeaturesMaterialized, heard.append)
    lake.tell("raw.events", frame(events(("a", 1, 1, 1.0))))
    materialize(lake, store, [latest_view()], bus)
    materialize(lake, store, [latest_view()], bus)
    assert [(e.view, e.table, e.rows, dict(e.offsets)) for e in heard] == [
        ("last", "raw.events", 1, {"0": 1})
    ]


def test_a_source_made_anew_is_told(store):
    view = latest_view()
    before, after = FakeLake(), FakeLake(first_id=2000)
    before.tell("raw.events", frame(events(("a", 1, 1, 1.0), ("a", 2, 2, 1.0))))
    after.tell("raw.events", frame(events(("a", 1, 1, 1.0))))
    materialize(before, store, [view])
    with pytest.raises(IntegrityError, match="ends at"):
        materialize(after, store, [view])


def test_a_view_that_was_not_materialized_is_told(store):
    with pytest.raises(NotFoundError, match="never materialized"):
        ask(store, [latest_view()], hour(1))
    with pytest.raises(NotFoundError, match="no table"):
        materialize(FakeLake(), store, [latest_view()])


class StoppingStore(LmdbOnlineStore):
    """Fails before its n-th write."""

    left = 0

    def write(self, *arguments, **more):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        super().write(*arguments, **more)


def test_a_run_that_stops_between_any_two_steps_continues(tmp_path):
    lake, view = FakeLake(), window_view()
    world = frame(events(*(("ab"[i % 2], i, i, float(i)) for i in range(40))))
    for start in range(0, 40, 10):
        lake.tell("raw.events", world[start : start + 10])
    for writes in range(4):
        store = StoppingStore(f"lmdb:///{tmp_path}/{writes}.db")
        store.left = writes
        with pytest.raises(KeyboardInterrupt):
            materialize(lake, store, [view], step_rows=10)
        store.left = 100
        assert [r.rows for r in materialize(lake, store, [view], step_rows=10)] == [40 - 10 * writes]
        assert ask(store, [view], hour(39), "b").frame.get_column("recent__sum_5h").item() == 39 + 37 + 35
        store.close()


def test_a_stretch_of_time_is_brought_by_itself_and_the_rest_continues(store):
    lake, view = FakeLake(), window_view(["48h"])
    world = frame(events(*(("a", i, i, 1.0) for i in range(30))))
    lake.tell("raw.events", world[:20])
    report = backfill(lake, store, [view], hour(10), hour(15))[0]
    assert (report.rows, report.entities, report.offsets) == (5, 1, {"0": 20})
    lake.tell("raw.events", world[20:])
    assert [r.rows for r in materialize(lake, store, [view])] == [10]

    def total():
        return ask(store, [view], hour(30)).frame.get_column("recent__sum_48h").item()

    assert total() == 15
    # What was read already, and what is asked for twice, changes nothing.
    for _ in range(2):
        assert backfill(lake, store, [view], hour(0), hour(12))[0].rows == 12
        assert total() == 25
    assert materialize(lake, store, [view])[0].rows == 0
    # Rows beyond what the view has consumed come with `materialize` only.
    lake.tell("raw.events", frame([Event("a", hour(11), hour(31), 0, 30, 1.0)]))
    assert backfill(lake, store, [view], hour(0), hour(12))[0].rows == 12


def test_a_stretch_of_a_table_that_is_read_whole_is_refused(store):
    lake = FakeLake()
    table = project().table("raw.planes", columns={"tail": "string", "year": "int64"}, key="tail")
    view = project().feature_view("plane", source=table, entity="tail", features={"year": pl.col("year")})
    lake.ensure_schema(
        "raw.planes", pl.DataFrame(schema={"tail": pl.String, "year": pl.Int64}).to_arrow().schema
    )
    with pytest.raises(UserError, match="no event time"):
        backfill(lake, store, [view], hour(0), hour(1))


def test_rows_of_a_stream_are_applied_to_all_views_of_their_table(store):
    views = [latest_view(), window_view(["5h"])]
    rows = frame(events(("a", 1, 1, 1.0), ("a", 2, 2, 2.0), ("b", 2, 2, 5.0)))
    before = progress_of(store, views)
    assert before == {"last": None, "recent": None}
    first = apply_rows(store, views, rows[:2], Progress(None, {"0": 2}, b""), before)
    apply_rows(store, views, rows[2:], Progress(None, {"0": 3}, b""), first)
    with pytest.raises(ConflictError, match="stand at"):
        apply_rows(store, views, rows[2:], Progress(None, {"0": 3}, b""), first)
    assert [progress.offsets for progress in progress_of(store, views).values()] == [{"0": 3}] * 2
    assert ask(store, views, hour(2)).frame.row(0)[:4] == (2, False, 4, 3)
    # A materialization goes on from there.
    lake = FakeLake()
    lake.tell("raw.events", pl.concat([rows, frame([Event("a", hour(3), hour(3), 0, 3, 4.0)])]))
    assert [r.rows for r in materialize(lake, store, views)] == [1, 1]
    assert ask(store, views, hour(3)).frame.row(0)[:4] == (4, False, 8, 7)
