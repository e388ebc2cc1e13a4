"""Each fault of a table's layout, mode, retention and renames is told with its mend."""

from datetime import timedelta
from typing import Any

import pytest

import rayplat as rp
from rayplat.core.project.check_table import check_table
from rayplat.core.project.faults import Faults

COLUMNS: dict[str, Any] = {
    "id": "int64",
    "at": rp.Column("timestamp", nullable=False),
    "day": "date",
    "city": "string",
    "amount": "float64",
    "paid": "bool",
}


def faults(**changes: Any) -> list[str]:
    given: dict[str, Any] = {"columns": COLUMNS, "key": "id", "event_time": "at", **changes}
    table = rp.Project("p", owner="a@example.com").table("raw.orders", **given)
    found = Faults()
    check_table(table, found)
    assert all(fault.mend for fault in found.found)
    return [f"{fault.what} -> {fault.mend}" for fault in found.found]


GOOD: list[dict[str, Any]] = [
    {},
    {"partition_by": "day(at)"},
    {"partition_by": ["hour(at)", "month(day)", "bucket(16, id)", "truncate(2, city)", "city"]},
    {"sort_by": ["-at", "city"]},
    {"cluster_by": rp.zorder("city", "at")},
    {"cluster_by": rp.linear("city")},
    {"retention": timedelta(days=1)},
    {"mode": "upsert"},
    {"mode": "upsert", "event_time": None, "source": rp.Kafka("orders")},
    {"layout": "read"},
    {"columns": {**COLUMNS, "town": rp.Column("string", renamed_from="place")}},
]


@pytest.mark.parametrize("changes", GOOD, ids=str)
def test_what_is_good_has_no_fault(changes: dict[str, Any]) -> None:
    assert faults(**changes) == []


def renamed(**columns: str) -> dict[str, Any]:
    more = {new: rp.Column("string", renamed_from=old) for new, old in columns.items()}
    return {"columns": {**COLUMNS, **more}}


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"partition_by": "week(at)"},
        "partitioned by 'week(at)' -> write a column, or for example day(event_time)",
    ),
    ({"partition_by": [3]}, "partitioned by 3 -> write a column"),
    ({"partition_by": 3}, "partition_by is 3"),
    ({"partition_by": "day(ta)"}, "'day(ta)': the column 'ta' does not exist -> did you mean 'at'"),
    ({"partition_by": "day(city)"}, "'day(city)' takes a column that is string -> day takes date, timestamp"),
    ({"partition_by": "hour(day)"}, "takes a column that is date -> hour takes timestamp"),
    ({"partition_by": "amount"}, "takes a column that is float64 -> identity takes string"),
    ({"partition_by": "bucket(4, paid)"}, "takes a column that is bool -> bucket takes"),
    ({"partition_by": "truncate(4, at)"}, "takes a column that is timestamp -> truncate takes"),
    ({"partition_by": "bucket(0, id)"}, "has the width 0"),
    ({"partition_by": ["city", "city"]}, "partitioned by 'city' twice"),
    ({"partition_by": ["day(at)", "hour(at)"]}, "partitioned by 'day(at)' and 'hour(at)' -> keep the finer"),
    ({"sort_by": "-ctiy"}, "the sort column 'ctiy' does not exist -> did you mean 'city'"),
    ({"sort_by": ["city", "-city"]}, "sorted by 'city' twice"),
    ({"sort_by": [3]}, "a term of sort_by is 3"),
    ({"cluster_by": "city"}, "cluster_by is 'city', not rp.zorder"),
    ({"cluster_by": rp.zorder()}, "clustered by nothing"),
    ({"cluster_by": rp.zorder("ctiy")}, "the clustering column 'ctiy' does not exist"),
    ({"layout": "fast"}, "the layout 'fast' does not exist -> there is: compact, read"),
    ({"mode": "merge"}, "the mode 'merge' does not exist"),
    (
        {"mode": "upsert", "event_time": None},
        "nothing says which row of a key is the last -> name its event_time",
    ),
    ({"mode": "upsert", "key": ()}, "has no key"),
    ({"retention": timedelta(0)}, "retention is 0:00:00 -> give a length of time over 0"),
    ({"retention": 30}, "retention is 30, not a timedelta"),
    ({"retention": timedelta(1), "event_time": None}, "has a retention and no event_time"),
    (renamed(town="city"), "column 'town' is renamed from 'city', which is declared as well"),
    (renamed(town="place", spot="place"), "the columns 'town' and 'spot' are both renamed from 'place'"),
    ({"columns": {**COLUMNS, "x": rp.Column("string", renamed_from=3)}}, "renamed_from is 3"),  # type: ignore[arg-type]
    ({"columns": {**COLUMNS, "x": rp.Column("string", unit=3)}}, "unit is 3"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("changes", "wanted"), WRONG, ids=[wanted[:40] for _, wanted in WRONG])
def test_each_fault_is_told_once_with_its_mend(changes: dict[str, Any], wanted: str) -> None:
    (found,) = faults(**changes)
    assert wanted in found


@pytest.mark.parametrize("namespace", ["quarantine", "dead", "late", "training", "serving"])
def test_the_platforms_namespaces_are_kept(namespace: str) -> None:
    table = rp.Project("p", owner="a@example.com").table(f"{namespace}.x", columns=COLUMNS, key="id")
    found = Faults()
    check_table(table, found)
    assert "the platform writes the namespace" in found.found[0].what
