"""The checks of a table as a whole: each fault is told, and a good declaration has none."""

from datetime import timedelta
from typing import Any

import pytest

import rayplat as rp
from rayplat.core.project.check import Distribution, Fresh, References, TableCheck, Unique, Volume
from rayplat.core.project.check_checks import check_checks, check_references
from rayplat.core.project.faults import Faults


def faults(*checks: TableCheck, event_time: str | None = "at") -> list[str]:
    project = rp.Project("shop", owner="ops@example.com")
    columns = {"id": "string", "at": "timestamp", "amount": "float64", "shop": "string", "n": "int64"}
    project.table("raw.shops", columns={"code": "string", "size": "int64"}, key="code")
    project.table("raw.orders", columns=columns, key="id", event_time=event_time, checks=checks)
    found = Faults()
    for table in project.tables:
        check_checks(table, found)
    check_references(project.tables, found)
    assert all(fault.mend and fault.where for fault in found.found)
    return [f"{fault.what} -> {fault.mend}" for fault in found.found]


def test_good_checks_have_no_fault() -> None:
    good = [
        rp.unique("id"),
        rp.unique(["id", "shop"], on_fail="stop"),
        rp.references("shop", "raw.shops", "code", on_fail="warn"),
        rp.fresh(timedelta(hours=1)),
        rp.volume(0.5, 2, on_fail="stop"),
        rp.distribution("amount"),
        rp.distribution("n", 0.1, on_fail="stop"),
    ]
    assert faults(*good) == []


BAD: list[tuple[Any, str]] = [
    (Unique(("idd",)), "unique: the column 'idd' does not exist -> did you mean 'id'"),
    (Unique(()), "unique names no column"),
    (Unique(("id",), "drop"), "unique: on_fail 'drop' does not exist -> did you mean 'stop'"),
    (References("shp", "raw.shops", "code"), "references: the column 'shp' does not exist"),
    (References("shop", "raw.shop", "code"), "the table 'raw.shop' does not exist -> did you mean"),
    (References("shop", "raw.shops", "cod"), "in 'raw.shops' the column 'cod' does not exist"),
    (References("shop", "raw.shops", "size"), "is string, and raw.shops.size is int64"),
    (Fresh(timedelta(0)), "fresh: within is 0:00:00"),
    (Fresh(60), "fresh: within is 60, not a timedelta"),  # type: ignore[arg-type]
    (Fresh(timedelta(1), "quarantine"), "fresh: on_fail is 'quarantine', and no single row is at fault"),
    (Volume(2, 1), "volume: between 2 and 1 times"),
    (Volume(-1, 1), "volume: between -1 and 1 times"),
    (Volume("a", 1), "volume: low is 'a', not a number"),  # type: ignore[arg-type]
    (Volume(0.5, 2, "quarantine"), "volume: on_fail is 'quarantine'"),
    (Distribution("shop"), "distribution: 'shop' is string, not a number"),
    (Distribution("amnt"), "distribution: the column 'amnt' does not exist"),
    (Distribution("amount", 0), "distribution: psi is 0"),
    (Distribution("amount", 0.2, "quarantine"), "distribution: on_fail is 'quarantine'"),
]


@pytest.mark.parametrize(("check", "told"), BAD)
def test_a_fault_is_told_once(check: TableCheck, told: str) -> None:
    found = faults(check)
    assert len(found) == 1, found
    assert told in found[0]


@pytest.mark.parametrize("check", [rp.fresh(timedelta(1)), rp.distribution("amount")])
def test_what_goes_by_event_time_needs_one(check: TableCheck) -> None:
    (found,) = faults(check, event_time=None)
    assert "goes by the event time, and there is none -> name the event_time" in found
