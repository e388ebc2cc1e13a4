"""Cut by entity and put together again: the rows of one process, whatever the number of tasks."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from rayplat.core.errors import UserError
from rayplat.core.project.view import View
from rayplat.core.settings import Settings
from rayplat.features.distributed import layout
from rayplat.features.distributed.historical import (
    Asking,
    answered,
    get_historical_dataset,
    get_historical_frame,
)
from rayplat.features.distributed.layout import Limits, partitions, slices, stays_here
from rayplat.features.distributed.pieces import cut, unpack
from rayplat.features.distributed.tasks import Here
from rayplat.features.join.parts import FramePart, Part
from rayplat.features.lake import pin
from rayplat.features.offline import get_historical_features
from tests.features.fakes import FakeLake, FakeTable
from tests.features.worlds import TIME, events, frame, hour, latest_view, project, window_view

KEYS = ["a", "b", "c", "d", "hot", None]


def declared() -> list[View]:
    request = project().request_view(
        "request", source=latest_view().source, features={"late": pl.col("x") > 0.5}
    )
    return [latest_view(), request, window_view()]


def told(seed: int, rows: int) -> FakeLake:
    pick = random.Random(seed)
    made = []
    for _ in range(rows):
        event = pick.randrange(40)
        made.append(
            (pick.choice(KEYS), event, event + pick.choice([0, 0, 5]), pick.choice([None, pick.random()]))
        )
    lake = FakeLake()
    lake.tell("raw.events", frame(events(*made)))
    return lake


def asked(seed: int, rows: int, *, hot: bool) -> pl.DataFrame:
    pick = random.Random(seed)
    return pl.DataFrame(
        {
            "entity": [
                "hot" if hot and pick.random() < 0.9 else pick.choice([*KEYS, "new"]) for _ in range(rows)
            ],
            "at": [hour(pick.randrange(-1, 50)) for _ in range(rows)],
            "x": [pick.random() for _ in range(rows)],
        },
        schema={"entity": pl.String, "at": TIME, "x": pl.Float64},
    )


class ManyParts(FakeTable):
    """A table whose parts are small, so that there are shares of several parts."""

    def parts(self, columns: Sequence[str], snapshot_id: int | None = None) -> list[Part]:
        rows = pl.DataFrame(self.read(columns, snapshot_id))
        return [FramePart(rows[first : first + 11]) for first in range(0, rows.height, 11)]


def in_small_parts(lake: FakeLake) -> FakeLake:
    for name, table in lake.tables.items():
        lake.tables[name] = ManyParts(table.columns, table.first_id, table.snapshots, table.rows)
    return lake


def by_tasks(
    lake: FakeLake, rows: pl.DataFrame, views: list[View], limits: Limits, width: int
) -> pl.DataFrame:
    whole = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    blocks = [whole.slice(0, 40), whole.slice(40, 0), whole.slice(40)]
    heights = [block.num_rows for block in blocks]
    pins = pin(lake, list(lake.tables))
    made = answered(Here(width), blocks, heights, Asking("at", views, lake, pins, limits))
    assert [part.num_rows for part in made] == heights
    return pl.DataFrame(pa.concat_tables(made))


@pytest.mark.parametrize("hot", [False, True])
@pytest.mark.parametrize(("events", "questions"), [(2_000_000, 1_000_000), (20, 15), (7, 1000)])
def test_the_rows_of_one_process(events: int, questions: int, hot: bool) -> None:
    limits = Limits(shared=0, events=events, questions=questions)
    for seed in range(3):
        print("seed", seed)
        lake, rows = told(seed, 130), asked(seed, 90, hot=hot)
        wanted = get_historical_features(rows, "at", declared(), lake, pin(lake, ["raw.events"]))
        assert_frame_equal(by_tasks(lake, rows, declared(), limits, 1), wanted, check_exact=True)


@pytest.mark.parametrize("width", [1, 2, 5, 40])
def test_streamed_shares_give_the_rows_of_one_process(width: int) -> None:
    for seed in range(4):
        print("seed", seed)
        lake, rows = in_small_parts(told(seed, 130)), asked(seed, 90, hot=seed % 2 == 1)
        limits = Limits(shared=len(rows))
        wanted = get_historical_features(rows, "at", declared(), lake, pin(lake, ["raw.events"]))
        assert_frame_equal(by_tasks(lake, rows, declared(), limits, width), wanted, check_exact=True)


def test_streamed_views_of_several_ttls_share_one_pass() -> None:
    views: list[View] = [latest_view(), latest_view(ttl=timedelta(hours=3)).with_name("short")]
    lake, rows = in_small_parts(told(9, 200)), asked(9, 120, hot=False)
    wanted = get_historical_features(rows, "at", views, lake, pin(lake, ["raw.events"]))
    assert wanted["short__twice"].null_count() > wanted["last__twice"].null_count()
    assert_frame_equal(by_tasks(lake, rows, views, Limits(), 3), wanted, check_exact=True)


def test_a_table_without_times_and_features_of_texts_or_of_nothing() -> None:
    table = project().table("raw.events", columns={"entity": "string", "name": "string"}, key=("entity",))
    view = project().feature_view(
        "told", source=table, entity="entity", features={"name": pl.col("name"), "one": pl.lit(1)}
    )
    rows = pl.DataFrame({"entity": [*KEYS, *KEYS] * 5, "name": [f"n{i}" for i in range(60)]})
    lake = FakeLake()
    lake.ensure_schema("raw.events", rows.to_arrow(compat_level=pl.CompatLevel.oldest()).schema)
    lake.table("raw.events").append(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    in_small_parts(lake)
    asking = asked(6, 90, hot=False)
    wanted = get_historical_features(asking, "at", [view], lake, pin(lake, ["raw.events"]))
    for width in (1, 4):
        assert_frame_equal(by_tasks(lake, asking, [view], Limits(), width), wanted, check_exact=True)


def test_rows_of_equal_times_in_different_shares() -> None:
    rows = [("a", 3, 3, float(number)) for number in range(60)]
    shuffled = events(*rows)
    random.Random(4).shuffle(shuffled)
    lake = FakeLake()
    lake.tell("raw.events", frame(shuffled))
    in_small_parts(lake)
    asking = asked(4, 90, hot=False)
    wanted = get_historical_features(asking, "at", [latest_view()], lake, pin(lake, ["raw.events"]))
    for width in (2, 6):
        assert_frame_equal(by_tasks(lake, asking, [latest_view()], Limits(), width), wanted, check_exact=True)


class Counting(ManyParts):
    """Knows how many rows of its parts were read."""

    read_rows = 0

    def parts(self, columns: Sequence[str], snapshot_id: int | None = None) -> list[Part]:
        return [CountedPart(part.frame, self) for part in super().parts(columns, snapshot_id)]


@dataclass(frozen=True, slots=True)
class CountedPart(FramePart):
    of: Counting

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        self.of.read_rows += self.rows
        return FramePart(self.frame).batches(columns)


def test_windows_read_only_the_parts_that_they_reach() -> None:
    lake = FakeLake()
    lake.tell("raw.events", frame(events(*(("ab"[i % 2], i / 10, i / 10, float(i)) for i in range(1_000)))))
    told = lake.tables["raw.events"]
    table = Counting(told.columns, told.first_id, told.snapshots, told.rows)
    lake.tables["raw.events"] = table
    rows = pl.DataFrame(
        {"entity": ["a", "b", None], "at": [hour(50), hour(51), hour(50)], "x": [0.0] * 3},
        schema={"entity": pl.String, "at": TIME, "x": pl.Float64},
    )
    pins, views = pin(lake, ["raw.events"]), [window_view()]
    wanted = get_historical_features(rows, "at", views, lake, pins)
    assert wanted["recent__count_5h"].to_list() == [25, 25, None]
    assert table.read_rows == 0
    assert_frame_equal(get_historical_features(rows, "at", views, lake, pins, few=0), wanted)
    assert 60 <= table.read_rows < 100
    table.read_rows = 0
    asking = Asking("at", views, lake, pins, Limits(events=30, share=20))
    made = answered(Here(), [rows.to_arrow(compat_level=pl.CompatLevel.oldest())], [3], asking)
    assert_frame_equal(pl.DataFrame(made[0]), wanted)
    assert 60 <= table.read_rows < 100
    never = rows.with_columns(at=pl.lit(hour(-90)))
    assert get_historical_features(never, "at", views, lake, pins, few=0)["recent__rows_5h"].to_list() == [
        0,
        0,
        None,
    ]


def test_shares_of_neighbouring_parts() -> None:
    assert layout.shares([5, 5, 5, 5], 2) == [(0, 2), (2, 4)]
    assert layout.shares([0, 9, 0, 1], 2) == [(0, 2), (2, 4)]
    assert layout.shares([1, 1], 8) == [(0, 1), (1, 2)]
    assert layout.shares([], 3) == []
    assert layout.shares([0, 0], 3) == []
    for seed in range(50):
        pick = random.Random(seed)
        weights = [pick.choice([0, 1, 7, 30]) for _ in range(pick.randrange(1, 12))]
        cut_at = layout.shares(weights, pick.randrange(1, 6))
        covered = [part for begin, end in cut_at for part in range(begin, end)]
        assert len(covered) == len(set(covered)), seed
        assert sum(weights[part] for part in covered) == sum(weights), seed


def test_a_source_without_rows() -> None:
    lake, rows = FakeLake(), asked(1, 5, hot=False)
    lake.ensure_schema("raw.events", frame([]).to_arrow(compat_level=pl.CompatLevel.oldest()).schema)
    made = answered(Here(), [rows.to_arrow()], [5], Asking("at", declared(), lake, {}, Limits()))
    assert_frame_equal(pl.DataFrame(made[0]), get_historical_features(rows, "at", declared(), lake, {}))


def test_what_is_refused() -> None:
    lake, rows = told(1, 5), asked(1, 5, hot=False)
    with pytest.raises(UserError, match="no snapshot"):
        answered(Here(), [rows.to_arrow()], [5], Asking("at", declared(), lake, {}, Limits()))
    pins = pin(lake, ["raw.events"])
    with pytest.raises(UserError, match="no entity column"):
        answered(
            Here(), [rows.drop("entity").to_arrow()], [5], Asking("at", declared(), lake, pins, Limits())
        )
    other = rows.with_columns(entity=pl.lit(1))
    with pytest.raises(UserError, match="in the asking rows"):
        answered(Here(), [other.to_arrow()], [5], Asking("at", declared(), lake, pins, Limits()))


def test_every_row_is_in_one_piece_and_in_order() -> None:
    rows = pl.DataFrame({"k": np.arange(1000) % 37, "n": np.arange(1000)})
    pieces = [unpack([piece]) for piece in cut(rows, rows.select("k"), 8)]
    assert sum(piece.height for piece in pieces) == 1000
    assert all(piece["n"].is_sorted() for piece in pieces)
    places = [set(piece["k"]) for piece in pieces]
    assert sum(map(len, places)) == 37


def test_how_work_is_cut() -> None:
    limits = Limits(here_rows=10, here_bytes=100, events=50, bytes=1000, questions=20)
    assert stays_here(10, 100, limits)
    assert not stays_here(11, 1, limits)
    assert not stays_here(1, 101, limits)
    assert [partitions(e, q, 8, limits) for e, q in [(0, 0), (50, 20), (51, 1), (1, 61)]] == [1, 1, 2, 4]
    assert [partitions(50, 20, row, limits) for row in (20, 21, 200)] == [1, 2, 10]
    assert partitions(10**9, 0, 8, limits) == 1 << 16
    columns = [("k", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("s", pa.string()), ("b", pa.bool_())]
    assert layout.row_bytes(pa.schema(columns)) == 8 + 8 + 32 + 1
    assert slices([0, 1, 40, 41, 200], limits) == [0, 1, 1, 3, 10]
    assert layout.slices([], limits) == []


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_ray_gives_the_rows_of_one_process(ray_session: Settings, tmp_path: Path) -> None:
    from rayplat.data.lakehouse.catalog import Lakehouse

    assert ray_session
    lake = Lakehouse(Settings(home=tmp_path))
    try:
        table = lake.ensure(latest_view().source)
        source = told(3, 500).table("raw.events").read()
        source = source.filter(source["entity"].is_valid())
        for begin in (0, 150):
            table.append(source.slice(begin, 150 if begin == 0 else 250))
        rows, pins = asked(3, 300, hot=True), pin(lake, ["raw.events"])
        limits = Limits(events=100, questions=50, block=70)
        views = [latest_view(), window_view()]
        wanted = get_historical_features(rows, "at", views, lake, pins)
        as_frame = get_historical_frame(rows, "at", views, lake, pins, limits)
        assert_frame_equal(as_frame, wanted, check_exact=True)
        made = get_historical_dataset(rows, "at", views, lake, pins, limits=replace(limits, shared=0))
        # A dataset is answered by tasks as well, here streamed.
        again = get_historical_features(made.select_columns(["entity", "at", "x"]), "at", views, lake, pins)
        for dataset in (made, again):
            got = pl.concat(
                [
                    pl.DataFrame(block)
                    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow")
                ]
            )
            assert_frame_equal(got, wanted, check_exact=True)
    finally:
        lake.close()
