"""Indexes on disk: found again, never half there, never wrong in silence."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from rayplat.core.errors import IntegrityError, UserError
from rayplat.features.index.indexes import Indexes
from rayplat.features.lake import pin
from rayplat.features.offline import get_historical_features
from rayplat.features.point_in_time import join
from tests.features.fakes import FakeLake
from tests.features.index.test_built import KEYS, questions, wide_view, world
from tests.features.worlds import asking, events, frame, hour, latest_view, window_view


def told(lake: FakeLake, table: str, rows: pl.DataFrame) -> None:
    lake.tell(table, rows)


@pytest.mark.parametrize("kind", KEYS)
def test_an_index_on_disk_answers_as_the_engine(kind: str, tmp_path: Path) -> None:
    name, dtype, keys, asked = KEYS[kind]
    view, source = wide_view(timedelta(minutes=9), key_type=name), world(4, 300, keys, dtype)
    lake = FakeLake()
    told(lake, "raw.wide", source)
    kept = Indexes(tmp_path).build(view, lake)
    index = Indexes(tmp_path).find(view, kept.snapshot_id)
    assert index is not None
    rows = questions(4, 80, asked, dtype)
    wanted = join(rows, "at", view, source).select(view.names)
    assert_frame_equal(index.answer(rows, "at", view), wanted, check_exact=True)
    Indexes(tmp_path).verify(kept)


def world_of_one(hours: float = 1) -> FakeLake:
    lake = FakeLake()
    told(lake, "raw.events", frame(events(("a", hours, hours, 1.0))))
    return lake


def test_it_is_found_by_definition_and_snapshot(tmp_path: Path) -> None:
    lake, indexes = world_of_one(), Indexes(tmp_path)
    first = indexes.build(latest_view(), lake)
    assert indexes.build(latest_view(), lake) == first
    assert len(lake.tables["raw.events"].reads) == 1
    assert indexes.find(latest_view().with_name("same"), first.snapshot_id) is not None
    assert indexes.find(latest_view(timedelta(hours=1)), first.snapshot_id) is None
    assert indexes.find(latest_view(), first.snapshot_id + 1) is None
    assert indexes.find(latest_view(), None) is None
    assert indexes.find(window_view(), first.snapshot_id) is None


def test_stale_ones_are_removed_and_open_ones_read_on(tmp_path: Path) -> None:
    lake, indexes = world_of_one(), Indexes(tmp_path)
    old = indexes.build(latest_view(), lake)
    opened = indexes.find(latest_view(), old.snapshot_id)
    told(lake, "raw.events", frame(events(("a", 2, 2, 2.0))))
    new = indexes.build(latest_view(), lake)
    assert indexes.all() == [old, new]
    assert indexes.remove_stale(pin(lake, ["raw.events"])) == [old]
    assert indexes.all() == [new]
    assert indexes.find(latest_view(), old.snapshot_id) is None
    assert opened is not None
    assert opened.answer(asking([("a", hour(3))]), "at", latest_view()).row(0)[0] == 1.0


@pytest.mark.parametrize("damage", ["cut", "gone", "note"])
def test_damage_is_told_when_it_is_opened(damage: str, tmp_path: Path) -> None:
    kept = Indexes(tmp_path).build(latest_view(), world_of_one())
    if damage == "cut":
        os.truncate(kept.folder / "steps.bin", 8)
    elif damage == "gone":
        (kept.folder / "starts.bin").unlink()
    else:
        (kept.folder / "index.json").write_text("{")
    with pytest.raises(IntegrityError, match="delete the folder"):
        Indexes(tmp_path).find(latest_view(), kept.snapshot_id)


def test_a_changed_byte_is_told_by_verify(tmp_path: Path) -> None:
    indexes = Indexes(tmp_path)
    kept = indexes.build(latest_view(), world_of_one())
    path = kept.folder / "steps.bin"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="SHA-256"):
        indexes.verify(kept)


def test_nothing_to_index(tmp_path: Path) -> None:
    lake = FakeLake()
    lake.ensure_schema("raw.events", frame([]).to_arrow(compat_level=pl.CompatLevel.oldest()).schema)
    with pytest.raises(UserError, match="never written"):
        Indexes(tmp_path).build(latest_view(), lake)
    with pytest.raises(UserError, match="windows"):
        Indexes(tmp_path).build(window_view(), lake)
    assert Indexes(tmp_path / "none").all() == []


def test_historical_features_take_the_index_where_there_is_one(tmp_path: Path) -> None:
    lake, indexes = FakeLake(), Indexes(tmp_path)
    lake.tell("raw.events", frame(events(("a", 1, 1, 1.0), ("a", 2, 5, None), ("b", 3, 3, 3.0))))
    rows = asking([("a", hour(4)), ("b", hour(2)), ("a", hour(5)), (None, hour(9))])
    views, pins = [latest_view(), window_view()], pin(lake, ["raw.events"])
    wanted = get_historical_features(rows, "at", views, lake, pins)
    indexes.build(latest_view(), lake)
    reads = len(lake.tables["raw.events"].reads)
    only = get_historical_features(rows, "at", [latest_view()], lake, pins, indexes=indexes)
    assert len(lake.tables["raw.events"].reads) == reads
    assert_frame_equal(only, wanted.select(only.columns), check_exact=True)
    both = get_historical_features(rows, "at", views, lake, pins, indexes=indexes)
    assert_frame_equal(both, wanted, check_exact=True)


_WRITER = """
ABOUT = {"view": "v", "table": "t", "digest": ""}
import sys
from pathlib import Path
from rayplat.features.index import files
from rayplat.features.index.built import build
from tests.features.worlds import events, frame, latest_view
made = build(latest_view(), frame(events(("a", 1, 1, 1.0))))
n = 0
while True:
    files.write(made, Path(sys.argv[1]) / f"index-{n}", ABOUT | {"snapshot_id": n})
    n += 1
    print(n, flush=True)
"""


def test_a_kill_leaves_whole_indexes_only(tmp_path: Path) -> None:
    from rayplat.features.index import files

    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert writer.stdout is not None
    with writer.stdout:
        for _ in range(20):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    whole = sorted(tmp_path.glob("index-*"))
    assert len(whole) >= 20
    for folder in whole:
        files.verify(folder)
    Indexes(tmp_path).remove_stale({})
    assert not list(tmp_path.glob(".*"))
