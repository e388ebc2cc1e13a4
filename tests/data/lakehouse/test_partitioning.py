"""Transforms agree with pyiceberg value by value; rows are parted and sorted completely and stably."""

import random
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform, IdentityTransform, UnknownTransform, parse_transform
from pyiceberg.types import (
    BinaryType,
    DateType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

import rayplat as rp
from rayplat.core.errors import UserError
from rayplat.core.project.table import Partitioning, Table
from rayplat.data.lakehouse.partitioning import (
    field_name,
    partition_path,
    partition_spec,
    sort,
    sort_order,
    split,
    transform_of,
)
from rayplat.data.lakehouse.schema import arrow_schema, iceberg_schema
from rayplat.data.lakehouse.transforms import transformed

LONGS = st.integers(-(2**63), 2**63 - 1)
TIMES = st.integers(-(10**16), 4 * 10**15)
CASES: dict[str, tuple[IcebergType, pa.DataType, Any, list[str]]] = {
    "int": (IntegerType(), pa.int32(), st.integers(-(2**31), 2**31 - 1), ["bucket[7]", "identity"]),
    "long": (LongType(), pa.int64(), LONGS, ["bucket[16]", "identity"]),
    "narrow": (LongType(), pa.int64(), st.integers(-(2**40), 2**40), ["truncate[10]", "truncate[1]"]),
    "string": (StringType(), pa.string(), st.text(max_size=9), ["bucket[16]", "truncate[3]", "identity"]),
    "binary": (BinaryType(), pa.binary(), st.binary(max_size=9), ["bucket[5]", "truncate[2]"]),
    "date": (DateType(), pa.date32(), st.integers(-700_000, 700_000), ["year", "month", "day", "bucket[9]"]),
    "time": (
        TimestamptzType(),
        pa.timestamp("us", "UTC"),
        TIMES,
        ["year", "month", "day", "hour", "bucket[9]"],
    ),
}


@pytest.mark.parametrize(("kind", "name"), [(k, name) for k, case in CASES.items() for name in case[3]])
@given(data=st.data())
def test_transforms_agree_with_pyiceberg_value_by_value(kind: str, name: str, data: st.DataObject) -> None:
    iceberg, arrow, values, _ = CASES[kind]
    found = data.draw(st.lists(values | st.none(), max_size=20))
    transform = parse_transform(name)
    one = transform.transform(iceberg)
    physical = pa.int32() if kind == "date" else pa.int64() if kind == "time" else arrow
    column = pa.chunked_array([pa.array(found, physical).cast(arrow)])
    assert transformed(transform, column).to_pylist() == [None if v is None else one(v) for v in found]


def test_the_hashes_are_those_of_the_specification() -> None:
    """Appendix B of the Iceberg specification."""
    whole = transform_of(Partitioning("x", "bucket", 2**31 - 1))

    def bucket(values: list[Any], kind: pa.DataType) -> list[int]:
        return transformed(whole, pa.chunked_array([pa.array(values, kind)])).to_pylist()

    expected = 2017239379
    assert bucket([34], pa.int32()) == bucket([34], pa.int64()) == [expected]
    assert bucket(["iceberg"], pa.string()) == [1210000089]
    assert bucket([date(2017, 11, 16)], pa.date32()) == [(-653330422 & 0x7FFFFFFF) % (2**31 - 1)]
    assert bucket([b"\x00\x01\x02\x03"], pa.binary()) == [(-188683207 & 0x7FFFFFFF) % (2**31 - 1)]


def test_an_unknown_transform_is_told() -> None:
    with pytest.raises(UserError, match="is not one that rayplat writes"):
        transformed(UnknownTransform("zorder"), pa.chunked_array([pa.array([1])]))


def flights(*, partition_by: tuple[str, ...] = (), sort_by: tuple[str, ...] = ()) -> Table:
    return rp.Project("p", owner="a@example.com").table(
        "raw.flights",
        key="id",
        event_time="at",
        columns={"id": "int64", "at": "timestamp", "origin": "string", "delay": "float64"},
        partition_by=list(partition_by),
        sort_by=list(sort_by),
    )


def iceberg(table: Table) -> Schema:
    return iceberg_schema(arrow_schema(table), table.name)


def rows(count: int, seed: int) -> pa.Table:
    rng = random.Random(seed)
    return pa.table(
        {
            "id": list(range(count)),
            "at": pa.array(
                [rng.randrange(-(10**11), 10**12) for _ in range(count)], pa.timestamp("us", "UTC")
            ),
            "origin": [rng.choice(["JFK", "LGA", None]) for _ in range(count)],
            "delay": [rng.choice([None, 1.5, -2.0, float("nan")]) for _ in range(count)],
        }
    )


@pytest.mark.parametrize("seed", range(5))
def test_parting_loses_and_repeats_nothing_and_keeps_the_order(seed: int) -> None:
    print(f"seed {seed}")
    table = flights(partition_by=("day(at)", "origin", "bucket(3, id)"))
    schema, data = iceberg(table), rows(500, seed)
    spec = partition_spec(table, schema)
    assert [f.name for f in spec.fields] == ["at_day", "origin", "id_bucket_3"]
    parts = split(data, spec, schema)
    assert sorted(i for _, part in parts for i in part["id"].to_pylist()) == list(range(500))
    names = [tuple(values.values()) for values, _ in parts]
    assert len(names) == len(set(names))
    bucket = spec.fields[2].transform.transform(LongType())
    for values, part in parts:
        assert part["id"].to_pylist() == sorted(part["id"].to_pylist())
        for row in part.to_pylist():
            assert values == {
                "at_day": (row["at"] - datetime(1970, 1, 1, tzinfo=UTC)).days,
                "origin": row["origin"],
                "id_bucket_3": bucket(row["id"]),
            }


def test_rows_of_one_partition_are_not_copied_and_none_give_none() -> None:
    table = flights(partition_by=("origin",))
    schema = iceberg(table)
    spec = partition_spec(table, schema)
    data = rows(40, 1).filter(pa.compute.field("origin") == "JFK")
    ((values, part),) = split(data, spec, schema)
    assert values == {"origin": "JFK"}
    assert part is data
    assert split(data.slice(0, 0), spec, schema) == []


def test_nulls_are_last_either_way_and_equal_rows_keep_their_order() -> None:
    table = flights(sort_by=("-origin", "id"))
    schema = iceberg(table)
    order = sort_order(table, schema)
    data = rows(50, 3)
    shuffled = data.take(pa.array(random.Random(3).sample(range(50), 50)))
    found = [(r["origin"], r["id"]) for r in sort(shuffled, order, schema).to_pylist()]
    assert found == sorted(found, key=lambda r: ({"LGA": 0, "JFK": 1, None: 2}[r[0]], r[1]))
    by_origin = sort_order(flights(sort_by=("origin",)), schema)
    stable = [(r["origin"], r["id"]) for r in sort(data, by_origin, schema).to_pylist()]
    assert stable == sorted(stable, key=lambda r: ({"JFK": 0, "LGA": 1, None: 2}[r[0]], r[1]))
    assert sort(data, sort_order(flights(), schema), schema) is data


def test_a_transform_that_does_not_take_the_type_is_told() -> None:
    table = flights(partition_by=("day(origin)",))
    with pytest.raises(UserError, match="day does not take 'origin', a string"):
        partition_spec(table, iceberg(table))


def test_folders_are_readable() -> None:
    table = flights(partition_by=("month(at)", "origin", "truncate(10, id)"))
    spec = partition_spec(table, iceberg(table))
    values = {"at_month": 516, "origin": "JFK", "id_trunc_10": -10}
    assert partition_path(values, spec) == "at_month=2013-01/origin=JFK/id_trunc_10=-10/"
    assert partition_path({"at_month": None, "origin": None, "id_trunc_10": 0}, spec).startswith(
        "at_month=null/"
    )
    assert partition_path({}, PartitionSpec()) == ""
    day = PartitionSpec(PartitionField(1, 1000, DayTransform(), "d"))
    assert partition_path({"d": -1}, day) == "d=1969-12-31/"


@given(text=st.text(max_size=300))
@example(text="../../etc/passwd")
@example(text="..")
@example(text="a%2Fb~c d")
def test_no_value_leaves_its_folder(text: str) -> None:
    spec = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "v"))
    folder = partition_path({"v": text}, spec)
    assert folder.startswith("v=")
    assert folder.endswith("/")
    assert "/" not in folder[:-1]
    assert "%" not in folder
    assert len(folder) < 255
    assert folder.isascii()


@pytest.mark.parametrize(
    ("term", "name"),
    [
        (Partitioning("a", "identity"), "a"),
        (Partitioning("a", "hour"), "a_hour"),
        (Partitioning("a", "truncate", 4), "a_trunc_4"),
    ],
)
def test_partitions_are_named_as_other_engines_name_them(term: Partitioning, name: str) -> None:
    assert field_name(term) == name
    assert NestedField(1, "a", StringType(), required=False).name == "a"
