"""An index that was extended is the index that is built of all rows, array by array."""

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.index import files
from rayplat.features.index.built import Index, build
from rayplat.features.index.growth import Added, added, extended
from rayplat.features.index.indexes import Indexes
from rayplat.features.lake import pin
from rayplat.features.point_in_time import join
from tests.features.index.test_built import KEYS, questions, wide_view, world
from tests.features.worlds import asking, events, frame, hour, latest_view, project

ARRAYS = ("starts", "directory", "steps", "shape")


def alike(one: Index, other: Index) -> None:
    for name in ARRAYS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.keys.kind == other.keys.kind
    assert one.keys.named.equals(other.keys.named)
    assert [(column.dtype, column.null) for column in one.columns] == [
        (column.dtype, column.null) for column in other.columns
    ]
    assert one.rows == other.rows
    for mine, theirs in zip(one.ranks.kept, other.ranks.kept, strict=True):
        assert mine.tolist() == theirs.tolist()


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("ttl", [None, timedelta(minutes=7)])
@pytest.mark.parametrize("later", [True, False])
def test_what_comes_later_gives_what_all_rows_give(kind: str, ttl: timedelta | None, later: bool) -> None:
    name, dtype, keys, asked = KEYS[kind]
    view = wide_view(ttl, key_type=name)
    for seed in range(8):
        print("seed", seed)
        whole = world(seed, 20 + seed * 30, keys, dtype)
        cut = whole.height * seed // 8
        first, more = (
            (whole[:cut], whole[cut:]) if later else (whole[whole.height - cut :], whole[: -cut or None])
        )
        grown = extended(build(view, first), view, Added(more, later=later))
        assert grown is not None
        rows = questions(seed, 60, asked, dtype)
        wanted = join(rows, "at", view, whole).select(view.names)
        assert_frame_equal(grown.answer(rows, "at", view), wanted, check_exact=True)
        alike(grown, build(view, whole))


@pytest.mark.parametrize("ttl", [None, timedelta(hours=30)])
@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("what", ["in order", "late", "logged", "nulls in one", "one time"])
def test_numbers_are_merged_as_they_are_laid_out(
    tmp_path: Path, ttl: timedelta | None, later: bool, what: str
) -> None:
    for seed in range(6):
        print("seed", seed)
        rng, count = np.random.default_rng(seed), 40 + 60 * seed
        times = np.sort(rng.integers(0, 90, count)) if what != "one time" else np.full(count, 5)
        late = times + rng.integers(0, 20, count) * (rng.random(count) < 0.3) if what == "late" else times
        names = [f"e{i}" for i in rng.integers(0, 9, count)]
        rows = zip(names, times.tolist(), late.tolist(), rng.standard_normal(count).tolist(), strict=True)
        whole = frame(events(*rows))
        if what == "logged":
            mixed = pl.Series(rng.permutation(count))
            whole = whole.with_columns(
                _offset=mixed, _partition=pl.Series(rng.integers(0, 2, count), dtype=pl.Int32)
            )
        else:
            whole = whole.drop("_offset", "_partition")
        if what == "nulls in one":
            whole = whole.with_columns(pl.when(pl.int_range(pl.len()) < count - 9).then("x").alias("x"))
        view, cut = latest_view(ttl), int(rng.integers(1, count))
        first, more = (whole[:cut], whole[cut:]) if later else (whole[cut:], whole[:cut])
        folder = tmp_path / str(seed)
        files.write(build(view, first), folder, {})
        opened = files.load(folder, ranks=True)
        assert opened is not None
        grown = extended(opened, view, Added(more, later=later))
        assert grown is not None
        alike(grown, build(view, whole))


def test_many_small_additions_with_new_entities() -> None:
    view, whole = wide_view(), world(3, 400, list(range(0, 5000, 7)), pl.Int64)
    grown = build(view, whole[:50])
    for begin in range(50, 400, 35):
        made = extended(grown, view, Added(whole[begin : begin + 35], later=True))
        assert made is not None
        grown = made
    alike(grown, build(view, whole))


def test_a_table_without_times_goes_on_answering_with_its_last_row() -> None:
    table = project().table("raw.planes", columns={"tail": "string", "year": "int64"}, key="tail")
    view = project().feature_view("plane", source=table, entity="tail", features={"year": pl.col("year")})
    old = pl.DataFrame({"tail": ["n1", "n2"], "year": [1990, 2004]})
    more = pl.DataFrame({"tail": ["n1", "n3"], "year": [1999, 2010]})
    rows = asking([(name, hour(0)) for name in ("n1", "n2", "n3")]).rename({"entity": "tail"})
    for later, year in ((True, 1999), (False, 1990)):
        grown = extended(build(view, old), view, Added(more, later=later))
        assert grown is not None
        assert grown.answer(rows, "at", view).to_series().to_list() == [year, 2004, 2010]


def lake_at(home: Path) -> Lakehouse:
    return Lakehouse(Settings.model_validate({"home": home}))


def tell(lake: Lakehouse, first: int, count: int) -> None:
    rows = frame(
        events(*((f"e{i % 9}", i, i + (i % 5 == 0) * 30, float(i)) for i in range(first, first + count)))
    )
    rows = rows.with_columns(_offset=pl.int_range(first, first + count, dtype=pl.Int64))
    data = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    lake.ensure_schema("raw.events", data.schema).append(data)


def test_a_kept_index_is_extended_by_the_files_that_came(tmp_path: Path) -> None:
    lake, view, indexes = lake_at(tmp_path), latest_view(), Indexes(tmp_path / "kept")
    tell(lake, 0, 300)
    old = indexes.build(view, lake)
    tell(lake, 300, 40)
    tell(lake, 340, 5)
    table, now = lake.table("raw.events"), pin(lake, ["raw.events"])["raw.events"]
    more = added(table, view, old.snapshot_id, now)
    assert more is not None
    # The newest files are read first.
    assert not more.later
    assert more.rows.get_column("_offset").to_list() == [*range(340, 345), *range(300, 340)]
    kept = indexes.build(view, lake)
    fresh = Indexes(tmp_path / "fresh").build(view, lake)
    names = sorted(path.name for path in fresh.folder.iterdir())
    assert names == sorted(path.name for path in kept.folder.iterdir())
    for name in names:
        assert (kept.folder / name).read_bytes() == (fresh.folder / name).read_bytes(), name
    lake.close()


def test_rows_that_are_gone_or_rewritten_make_it_anew(tmp_path: Path) -> None:
    lake, view, indexes = lake_at(tmp_path), latest_view(), Indexes(tmp_path / "kept")
    tell(lake, 0, 50)
    old = indexes.build(view, lake)
    table = lake.table("raw.events")
    table.overwrite(table.read()[10:])
    now = pin(lake, ["raw.events"])["raw.events"]
    assert added(table, view, old.snapshot_id, now) is None
    kept = indexes.build(view, lake)
    index = indexes.find(view, kept.snapshot_id)
    assert index is not None
    assert index.answer(asking([("e3", hour(4))]), "at", view).row(0)[0] is None
    lake.close()


_GROWER = """
import sys
from pathlib import Path
from rayplat.features.index.indexes import Indexes
from tests.features.index.test_growth import lake_at, tell
from tests.features.worlds import latest_view
home = Path(sys.argv[1])
lake, n = lake_at(home), 0
while True:
    tell(lake, 10 * n, 10)
    n += 1
    Indexes(home / "kept").build(latest_view(), lake)
    print(n, flush=True)
"""


def test_a_kill_while_it_grows_leaves_whole_indexes_that_grow_on(tmp_path: Path) -> None:
    grower = subprocess.Popen(
        [sys.executable, "-c", _GROWER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert grower.stdout is not None
    with grower.stdout:
        for _ in range(6):
            grower.stdout.readline()
        grower.send_signal(signal.SIGKILL)
        grower.wait()
    lake, indexes, view = lake_at(tmp_path), Indexes(tmp_path / "kept"), latest_view()
    assert len(indexes.all()) >= 6
    for kept in indexes.all():
        indexes.verify(kept)
    tell(lake, 1000, 10)
    kept = indexes.build(view, lake)
    fresh = Indexes(tmp_path / "fresh").build(view, lake)
    for path in fresh.folder.iterdir():
        assert path.read_bytes() == (kept.folder / path.name).read_bytes(), path.name
    lake.close()
