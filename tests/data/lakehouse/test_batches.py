"""Batches for PyTorch: every value once, in order, in batches of the same size, and never written back."""

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rayplat.core.errors import IntegrityError, NotFoundError, UserError
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.batches import torch_batches
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.plain_pages import PlainPages
from rayplat.data.lakehouse.scan import Scan
from rayplat.data.lakehouse.table import LakeTable
from tests.data.lakehouse.reading import NUMBERS, PLAIN, SCHEMA, local_scan, random_table, rows, scan

SEED = 20130101


@pytest.fixture
def table(lake: Lakehouse) -> LakeTable:
    table = lake.ensure_schema("raw.a", SCHEMA)
    for first in (0, 100, 200):
        table.append(rows(first, 100))
    return table


@pytest.fixture
def numbers(lake: Lakehouse) -> LakeTable:
    return lake.ensure_schema("raw.numbers", random_table(SEED, 1).schema)


def joined(batches: list[dict[str, torch.Tensor]]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: torch.cat([b[name] for b in batches]).numpy() for name in batches[0]}


def test_all_types_and_rows(table: LakeTable) -> None:
    batches = list(torch_batches(scan(table), 64, columns=NUMBERS))
    assert [len(b["id"]) for b in batches] == [64, 64, 64, 64, 44]
    found, wanted = joined(batches), table.read()
    kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in batches[0].items()}
    assert kinds == {
        "id": "int64",
        "at": "int64",
        "day": "int32",
        "small": "int32",
        "ratio": "float32",
        "value": "float64",
        "flag": "bool",
    }
    for name in ("id", "small", "ratio", "value", "flag"):
        np.testing.assert_array_equal(found[name], wanted[name].to_numpy())
    assert found["at"].tolist() == wanted["at"].cast(pa.int64()).to_pylist()
    assert found["day"].tolist() == wanted["day"].cast(pa.int32()).to_pylist()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70),
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.integers(5, 50),
    st.booleans(),
)
def test_any_batch_size_over_any_files(
    tmp_path_factory: pytest.TempPathFactory, size: int, counts: list[int], group: int, plain: bool
) -> None:
    folder = tmp_path_factory.mktemp("batches")
    lake = Lakehouse(Settings(home=folder / "home"))
    table = lake.ensure_schema("raw.numbers", random_table(SEED, 1).schema)
    parts = [random_table(SEED + n, count) for n, count in enumerate(counts)]
    options = {**(PLAIN if plain else {}), "row_group_size": group}
    files = [(str(folder / f"{n}.parquet"), part, options) for n, part in enumerate(parts)]
    planned = local_scan(parts[0].schema, files, table)
    lake.close()
    batches = list(torch_batches(planned, size))
    wanted = pa.concat_tables(parts)
    assert [len(b["id"]) for b in batches[:-1]] == [size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]["id"]) <= size
    for name, values in joined(batches).items():
        np.testing.assert_array_equal(values, wanted[name].to_numpy())


def plain_scan(table: LakeTable, folder: Path, count: int = 5000, **options: Any) -> Scan:
    data = random_table(SEED, count)
    file = (str(folder / "plain.parquet"), data, {**PLAIN, "row_group_size": 2048, **options})
    return local_scan(data.schema, [file], table)


def test_plain_pages_are_views_of_the_file_and_writes_stay_private(
    numbers: LakeTable, tmp_path: Path
) -> None:
    planned = plain_scan(numbers, tmp_path)
    path = planned.address(planned.files[0])
    before = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    pages = PlainPages(path, pq.read_metadata(path))
    view = pages.column(1, 0)
    assert view is not None
    assert not view.flags.owndata
    assert view[0] == 2048
    for batch in torch_batches(planned, 512):
        for values in batch.values():
            values.zero_()
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == before
    assert next(torch_batches(planned, 4096))["id"].tolist() == list(range(4096)), "nor the next reader's"


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lz4"},
        {"use_dictionary": True},
        {"max_rows_per_page": 100},
        {"write_statistics": False},
        {"data_page_version": "2.0"},
        {"column_encoding": {"value": "BYTE_STREAM_SPLIT"}},
    ],
)
def test_other_encodings_are_decoded_to_the_same(
    numbers: LakeTable, tmp_path: Path, options: dict[str, Any]
) -> None:
    planned = plain_scan(numbers, tmp_path, **options)
    path = planned.address(planned.files[0])
    pages = PlainPages(path, pq.read_metadata(path))
    assert pages.column(0, 3) is None
    wanted = random_table(SEED, 5000)
    for name, values in joined(list(torch_batches(planned, 300))).items():
        np.testing.assert_array_equal(values, wanted[name].to_numpy())


def test_pages_outlive_the_reader(numbers: LakeTable, tmp_path: Path) -> None:
    planned = plain_scan(numbers, tmp_path)
    batch = next(torch_batches(planned, 2048))
    Path(planned.address(planned.files[0])).unlink()
    assert int(batch["id"].sum()) == sum(range(2048))


def test_nulls(lake: Lakehouse) -> None:
    table = lake.ensure_schema("raw.nulls", SCHEMA)
    table.append(rows(0, 30, nulls=True))
    found = joined(list(torch_batches(scan(table), columns=["id", "value", "ratio"])))
    missing = found["id"] % 3 == 0
    assert np.isnan(found["ratio"]).tolist() == missing.tolist()
    for name in ("small", "flag", "at"):
        with pytest.raises(UserError, match=rf"'{name}' .* 10 nulls(.|\n)*fill=\{{'{name}': 0\}}"):
            list(torch_batches(scan(table), columns=[name]))
    filled = joined(list(torch_batches(scan(table), columns=["id", "small"], fill={"small": -1})))
    assert (filled["small"][missing] == -1).all()
    assert (filled["small"][~missing] == filled["id"][~missing]).all()
    assert (
        joined(list(torch_batches(scan(table), columns=["ratio"], fill={"ratio": 0})))["ratio"] >= 0
    ).all()


def test_nulls_in_a_plain_file(lake: Lakehouse, tmp_path: Path) -> None:
    table = lake.ensure_schema("raw.b", pa.schema([pa.field("value", pa.float64())]))
    data = pa.table({"value": pa.array([1.0, None, 3.0])})
    planned = local_scan(data.schema, [(str(tmp_path / "n.parquet"), data, PLAIN)], table)
    found = next(torch_batches(planned))["value"]
    assert torch.isnan(found).tolist() == [False, True, False]


def test_a_filter_and_a_cast(table: LakeTable) -> None:
    planned = scan(table, where="id >= 150")
    batches = list(torch_batches(planned, 64, columns=["id", "flag"], dtype=torch.float32, device="cpu"))
    assert {t.dtype for b in batches for t in b.values()} == {torch.float32}
    assert sorted(joined(batches)["id"].tolist()) == list(range(150, 300))


def test_shuffling_is_by_its_seed_and_loses_nothing(table: LakeTable) -> None:
    def ids(seed: int | None) -> list[int]:
        return joined(list(torch_batches(scan(table), 64, columns=["id"], shuffle=seed)))["id"].tolist()

    assert ids(1) == ids(1)
    assert len({tuple(ids(1)), tuple(ids(2)), tuple(ids(None))}) == 3
    assert sorted(ids(1)) == list(range(300))


def test_what_is_no_tensor_is_told_at_the_call(table: LakeTable) -> None:
    with pytest.raises(UserError, match=r"'name' of table raw\.a is string, which is no tensor"):
        torch_batches(scan(table))
    with pytest.raises(NotFoundError, match="no column nothing"):
        torch_batches(scan(table), columns=["nothing"])
    with pytest.raises(UserError, match="a batch of 0 rows"):
        torch_batches(scan(table), 0, columns=["id"])


def test_verified_batches(table: LakeTable) -> None:
    path = Path(scan(table).address(scan(table).files[2]))
    content = bytearray(path.read_bytes())
    content[40] ^= 8
    path.write_bytes(content)
    batches = torch_batches(scan(table, verify="always"), 100, columns=["id"])
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(IntegrityError, match="SHA-256"):
        next(batches)


def test_an_empty_table_and_an_early_end(table: LakeTable, lake: Lakehouse) -> None:
    assert list(torch_batches(scan(lake.ensure_schema("raw.none", SCHEMA)), columns=["id"])) == []
    before = threading.active_count()
    batches = torch_batches(scan(table), 10, columns=["id"])
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
