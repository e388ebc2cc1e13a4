"""Parts: the same values whether a file is read whole, by row groups, decoded or where it lies."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from rayplat.data.lakehouse.objects import by_address
from rayplat.data.profile.columns import column_profile
from rayplat.data.profile.parts import FilePart, Sketches, merged, sketch_part

SEED = 3
ROWS = 7_500
GROUP = 1_000


def content() -> pa.Table:
    rng = np.random.default_rng(SEED)
    start = datetime(2024, 5, 1, tzinfo=UTC)
    columns = {
        "pair": pa.array([{"a": 1.0, "b": 2.0}] * ROWS),
        "whole": pa.array(rng.integers(0, 10**9, ROWS)),
        "small": pa.array(rng.integers(0, 900, ROWS).astype(np.int32)),
        "double": pa.array(rng.normal(size=ROWS)),
        "single": pa.array(rng.normal(size=ROWS).astype(np.float32)),
        "gaps": pa.array(rng.normal(size=ROWS), mask=np.arange(ROWS) % 9 == 0),
        "flag": pa.array(np.arange(ROWS) % 3 == 0),
        "text": pa.array([f"t{i % 5}" for i in range(ROWS)]),
        "day": pa.array([date(2024, 1, 1) + timedelta(days=i % 4000) for i in range(ROWS)]),
        "at": pa.array(
            [start + timedelta(seconds=17 * i) for i in range(ROWS)], pa.timestamp("us", tz="UTC")
        ),
    }
    return pa.table(columns)


def written(folder: Path, data: pa.Table, *, plain: bool) -> FilePart:
    fields = [
        f.with_metadata({"PARQUET:field_id": str(number)}) for number, f in enumerate(data.schema, start=1)
    ]
    path = folder / f"{plain}.parquet"
    schema = pa.schema(fields)
    pq.write_table(
        data.cast(schema),
        path,
        row_group_size=GROUP,
        compression="none" if plain else "zstd",
        use_dictionary=["text"] if plain else True,
    )
    return FilePart(f"file://{path}", schema.remove(0), by_address)


def facts(sketches: Sketches) -> dict[str, tuple[object, ...]]:
    """What is exact of each column, and what does not hang on which rows are drawn."""
    found = {}
    for name, sketch in sketches.items():
        c = column_profile(name, "x", sketch, hidden=False)
        found[name] = (c.rows, c.nulls, c.distinct, c.distinct_exact, c.least, c.greatest, c.shortest)
    return found


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 8, 100])
def test_a_file_that_is_split_by_row_groups_is_the_file(tmp_path: Path, plain: bool, most: int) -> None:
    data = content()
    part = written(tmp_path, data, plain=plain)
    parts = part.split(most)
    assert len(parts) <= most
    groups = [group for piece in parts for group in piece.groups or ()]
    assert groups == list(range(-(-ROWS // GROUP))), "each row group is in one part"
    whole = sketch_part(part, 0)
    split = merged([sketch_part(piece, seed) for seed, piece in enumerate(parts)])
    assert facts(split) == facts(whole)
    for name in ("double", "single", "gaps", "whole"):
        assert split[name].moments.count == whole[name].moments.count
        assert split[name].moments.mean == pytest.approx(whole[name].moments.mean, rel=1e-12)
        assert split[name].quantiles.count == ROWS - split[name].nulls
        ordered = np.sort(data[name].drop_null().to_numpy())
        for median in split[name].quantiles.at([0.5]):
            assert abs(np.searchsorted(ordered, median) / len(ordered) - 0.5) < 0.01, f"seed {SEED}"


def test_values_that_lie_plain_in_the_file_are_not_copied(tmp_path: Path) -> None:
    data = content()
    before = pa.total_allocated_bytes()
    plain = {
        name: list(batches)
        for name, batches in written(tmp_path, data, plain=True).columns()
        if name in ("whole", "small", "double", "single", "day", "at")
    }
    assert pa.total_allocated_bytes() - before < ROWS, "views of the mapped file"
    decoded = {name: list(batches) for name, batches in written(tmp_path, data, plain=False).columns()}
    assert len(plain) == 6
    for name, batches in plain.items():
        assert pa.chunked_array(batches).equals(pa.chunked_array(decoded[name])), name
        assert pa.chunked_array(batches).equals(data[name]), "a struct before it has two leaves"


def test_a_column_that_was_widened_is_cast(tmp_path: Path) -> None:
    stored = pa.table({"x": pa.array([1, 2, 3], pa.int32())})
    part = written(tmp_path, stored.add_column(0, "y", pa.array([0.0, 1.0, 2.0])), plain=True)
    wide = pa.schema([pa.field("x", pa.int64(), metadata={"PARQUET:field_id": "2"})])
    found = [(name, list(batches)) for name, batches in FilePart(part.path, wide, by_address).columns()]
    assert found == [("x", [pa.array([1, 2, 3])])]


def elsewhere(address: str) -> tuple[pafs.FileSystem, str]:
    """The same files, of a system that is not known to be local."""
    return pafs.SubTreeFileSystem("/", pafs.LocalFileSystem()), address.removeprefix("file:///")


def test_a_file_that_is_not_local_is_decoded(tmp_path: Path) -> None:
    local = written(tmp_path, content(), plain=True)
    remote = FilePart(local.path, local.schema, elsewhere)
    assert facts(sketch_part(remote, 0)) == facts(sketch_part(local, 0))
