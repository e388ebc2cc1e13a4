"""Retention: what is declared too old goes, whole files or rows, and nothing else."""

import json
from datetime import timedelta

import pytest

from rayplat.core.errors import IntegrityError
from rayplat.core.project.table import Clustering
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.maintenance.retention import retain
from rayplat.data.lakehouse.maintenance.terms import clustering_of, retention_of
from rayplat.data.lakehouse.table import LakeTable
from tests.data.lakehouse.maintenance.worlds import BEGIN, filled, ids


def declare(table: LakeTable, **properties: str) -> LakeTable:
    with table.native().transaction() as change:
        change.set_properties({f"rayplat.{name}": value for name, value in properties.items()})
    return table


def test_old_rows_go_and_others_stay(lake: Lakehouse) -> None:
    table = declare(filled(lake, 3), event_time="at", retention_s="3600")
    now = BEGIN + timedelta(hours=16)
    shown = retain(table, dry_run=True, now=now)
    assert (shown.whole_files, shown.partial_files, shown.rows) == (1, 1, 10)
    assert ids(table) == list(range(30))
    done = retain(table, now=now)
    assert (done.rows, done.before, done.column) == (15, BEGIN + timedelta(hours=15), "at")
    assert ids(table) == list(range(15, 30))
    assert table.history()[-1].properties["rayplat.maintenance"] == "retention"
    again = retain(table, now=now)
    assert (again.rows, again.whole_files, again.partial_files) == (0, 0, 0)


def test_without_a_declaration_nothing_goes(lake: Lakehouse) -> None:
    table = filled(lake, 1)
    assert retain(table).column == ""
    assert ids(table) == list(range(10))


def test_declarations_are_read_from_the_properties() -> None:
    told = json.dumps({"kind": "zorder", "columns": ["a", "b"]})
    assert clustering_of({"rayplat.cluster_by": told}) == Clustering(("a", "b"), "zorder")
    assert clustering_of({}) is None
    assert retention_of({"rayplat.event_time": "at"}) is None
    assert retention_of({"rayplat.event_time": "at", "rayplat.retention_s": "86400"}) == (
        "at",
        timedelta(days=1),
    )
    for properties in ({"rayplat.cluster_by": "{}"}, {"rayplat.cluster_by": "x"}):
        with pytest.raises(IntegrityError, match="data apply"):
            clustering_of(properties)
    with pytest.raises(IntegrityError, match="long"):
        retention_of({"rayplat.event_time": "at", "rayplat.retention_s": "long"})
