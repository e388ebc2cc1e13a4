"""Table checks: what a whole table promises, judged round by round against what is stored."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

import rayplat as rp
from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.events import EventBus
from rayplat.core.project.check import TableCheck
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.quality.findings import GOOD, Finding, QualityWarned, Verdict
from rayplat.data.quality.tables import TableChecks

NOW = datetime(2024, 5, 3, 12, 30, tzinfo=UTC)


def visits(*checks: TableCheck, mode: str = "append") -> Table:
    columns = {"id": "string", "at": "timestamp", "page": "string", "ms": rp.Column("float64")}
    project = rp.Project("web", owner="ops@example.com")
    return project.table("raw.visits", columns=columns, key="id", event_time="at", checks=checks, mode=mode)


def rows(*ids: str | None, **columns: list[Any]) -> pl.DataFrame:
    schema = {"id": pl.String, "at": pl.Datetime("us", "UTC"), "page": pl.String, "ms": pl.Float64}
    default: dict[str, list[Any]] = {
        "id": list(ids),
        "at": [NOW] * len(ids),
        "page": ["/"] * len(ids),
        "ms": [1.0] * len(ids),
    }
    return pl.DataFrame({**default, **columns}, schema=schema)


def store(lake: Lakehouse, table: Table, frame: pl.DataFrame, **told: str) -> None:
    lake.ensure(table).append(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), told)


def reasons(verdict: Verdict) -> list[str | None]:
    assert verdict.quarantine is not None
    found: list[str | None] = verdict.quarantine.to_list()
    return found


def test_without_table_checks_nothing_is_read(lake: Lakehouse) -> None:
    checks = TableChecks(lake, visits())
    assert checks.columns == ()
    assert checks.judge(rows("a", "a"), NOW) is GOOD
    assert not (lake.settings.home / "rayplat.db").exists()


def test_unique_in_the_round_and_against_the_table(lake: Lakehouse) -> None:
    table = visits(rp.unique("id"))
    checks = TableChecks(lake, table)
    assert reasons(checks.judge(rows("a", "b", "a", None, None), NOW)) == [
        None,
        None,
        "id is there already",
        None,
        None,
    ]
    store(lake, table, rows("b", "it's", "zü"))
    found = checks.judge(rows("a", "b", "it's", "zü", "zz", "a"), NOW)
    again = "id is there already"
    assert reasons(found) == [None, again, again, again, None, again]
    assert checks.judge(rows("c", "d"), NOW).quarantine is None


def test_unique_keeps_up_with_the_table(lake: Lakehouse) -> None:
    """What came, went and was packed since the last round is known."""
    table = visits(rp.unique("id"))
    store(lake, table, rows("a"))
    checks = TableChecks(lake, table)
    assert reasons(checks.judge(rows("a", "b"), NOW)) == ["id is there already", None]
    for number in range(20):
        store(lake, table, rows(f"n{number}"))
        assert reasons(checks.judge(rows(f"n{number}", "x", None), NOW)) == [
            "id is there already",
            None,
            None,
        ]
    lake.table(table.name).overwrite(rows("b").to_arrow(compat_level=pl.CompatLevel.oldest()))
    assert reasons(checks.judge(rows("a", "b", "n3"), NOW)) == [None, "id is there already", None]


def test_unique_over_several_columns(lake: Lakehouse) -> None:
    table = visits(rp.unique(["page", "at"]))
    store(lake, table, rows("x", page=["/a"]))
    later = NOW + timedelta(seconds=1)
    frame = rows("1", "2", "3", "4", page=["/a", "/a", "/b", None], at=[NOW, later, NOW, NOW])
    assert reasons(TableChecks(lake, table).judge(frame, NOW)) == [
        "page, at is there already",
        None,
        None,
        None,
    ]


def test_a_row_that_is_set_aside_is_no_first_row(lake: Lakehouse) -> None:
    pages = rp.Project("web", owner="a@example.com").table(
        "raw.pages", columns={"path": "string"}, key="path"
    )
    lake.ensure(pages).append(pl.DataFrame({"path": ["/"]}).to_arrow(compat_level=pl.CompatLevel.oldest()))
    checks = TableChecks(lake, visits(rp.unique("id"), rp.references("page", "raw.pages", "path")))
    frame = rows("a", "a", "a", "b", page=["/nowhere", "/", "/", None])
    assert reasons(checks.judge(frame, NOW)) == [
        "page is not in raw.pages.path",
        None,
        "id is there already",
        None,
    ]


def test_unique_where_rows_are_replaced_by_key(lake: Lakehouse) -> None:
    table = visits(rp.unique("page"), mode="upsert")
    store(lake, table, rows("a", "b", page=["/a", "/b"]))
    frame = rows("a", "a", "c", "d", "e", page=["/a", "/a", "/b", "/d", "/d"])
    again = "page is there already"
    assert reasons(TableChecks(lake, table).judge(frame, NOW)) == [None, None, again, None, again]


def test_references_follow_the_other_table(lake: Lakehouse) -> None:
    pages = rp.Project("web", owner="a@example.com").table(
        "raw.pages", columns={"path": "string"}, key="path"
    )
    checks = TableChecks(lake, visits(rp.references("page", "raw.pages", "path", on_fail="warn")))
    with pytest.raises(NotFoundError, match=r"raw\.pages"):
        checks.judge(rows("a"), NOW)
    other = lake.ensure(pages)
    found = checks.judge(rows("a", "b", page=["/", None]), NOW)
    assert found.quarantine is None
    assert found.warnings == (Finding("references(page)", "1 of 2 rows: page is not in raw.pages.path"),)
    other.append(pl.DataFrame({"path": ["/"]}).to_arrow(compat_level=pl.CompatLevel.oldest()))
    assert checks.judge(rows("a", page=["/"]), NOW) == GOOD


def test_stop_refuses_the_round_and_warn_is_made_known(lake: Lakehouse) -> None:
    table = visits(rp.unique("id", on_fail="stop"), rp.fresh(timedelta(hours=1)))
    verdict = TableChecks(lake, table).judge(rows("a", "a"), NOW + timedelta(hours=2))
    with pytest.raises(UserError, match=r"nothing was committed to raw\.visits: unique\(id\): 1 of 2 rows"):
        verdict.enforce(table.name)
    seen: list[QualityWarned] = []
    bus = EventBus()
    bus.subscribe(QualityWarned, seen.append)
    verdict.tell(table.name, bus)
    assert [(event.table, event.check) for event in seen] == [("raw.visits", "fresh")]
    assert "2:00:00 ago, and at most 1:00:00 are allowed" in seen[0].told


def test_fresh_knows_what_is_committed(lake: Lakehouse) -> None:
    table = visits(rp.fresh(timedelta(hours=1)))
    checks = TableChecks(lake, table)
    assert checks.judge(rows(), NOW) == GOOD
    store(lake, table, rows("a"))
    late = NOW + timedelta(hours=2)
    assert [f.check for f in checks.judge(rows(), late).warnings] == ["fresh"]
    store(lake, table, rows("b"), **{"rayplat.max_event_time": late.isoformat()})
    assert checks.judge(rows(), late) == GOOD


def test_volume_against_the_day_before(lake: Lakehouse) -> None:
    table = visits(rp.volume(0.5, 2))
    store(lake, table, rows(*"abcdefghij"))
    checks = TableChecks(lake, table)
    now = datetime.now(UTC)
    assert checks.judge(rows("a"), now) == GOOD, "the table is not a day old"
    tomorrow = now + timedelta(days=1, minutes=1)
    assert checks.judge(rows(*"abcdefgh"), tomorrow) == GOOD
    (found,) = checks.judge(rows(*"abcd"), tomorrow).warnings
    assert found.told.startswith("4 rows in the last 24 hours and 10 in the 24 before; allowed are 0.5 to 2")
    assert [f.check for f in checks.judge(rows(*"abcdefghijklmnopqrstu"), tomorrow).warnings] == ["volume"]


@pytest.mark.parametrize(("mean", "shifted"), [(0.0, False), (1.5, True)])
def test_distribution_against_the_day_before(lake: Lakehouse, mean: float, shifted: bool) -> None:
    seed = 3
    rng = np.random.default_rng(seed)
    table = visits(rp.distribution("ms", 0.2))
    yesterday = [NOW - timedelta(hours=30, seconds=i) for i in range(2000)]
    names = [str(i) for i in range(2000)]
    store(lake, table, rows(*names, at=yesterday, ms=rng.normal(size=2000).tolist()))
    checks = TableChecks(lake, table)
    today = [NOW - timedelta(seconds=i) for i in range(2000)]
    verdict = checks.judge(rows(*names, at=today, ms=rng.normal(mean, size=2000).tolist()), NOW)
    assert [f.check for f in verdict.warnings] == (["distribution(ms)"] if shifted else []), f"seed {seed}"


def test_distribution_of_a_few_rows_is_chance(lake: Lakehouse) -> None:
    table = visits(rp.distribution("ms", 0.05))
    names = [str(i) for i in range(500)]
    values = np.random.default_rng(1).normal(size=500).tolist()
    store(lake, table, rows(*names, at=[NOW - timedelta(hours=30)] * 500, ms=values))
    checks = TableChecks(lake, table)
    assert checks.judge(rows("a", "b", "c", ms=[0.1, 0.2, -0.3]), NOW) == GOOD


def test_an_event_of_the_future_does_not_move_the_windows(lake: Lakehouse) -> None:
    table = visits(rp.distribution("ms"))
    names = [str(i) for i in range(800)]
    store(lake, table, rows(*names, at=[NOW - timedelta(hours=30)] * 800, ms=[float(i) for i in range(800)]))
    frame = rows(*names, at=[NOW] * 799 + [NOW + timedelta(days=9000)], ms=[1e6] * 800)
    assert [f.check for f in TableChecks(lake, table).judge(frame, NOW).warnings] == ["distribution(ms)"]


def test_only_the_columns_that_are_looked_at_need_to_come(lake: Lakehouse) -> None:
    table = replace(
        visits(rp.unique("page"), rp.distribution("ms"), mode="upsert"),
    )
    checks = TableChecks(lake, table)
    assert checks.columns == ("page", "id", "ms", "at")
    assert checks.judge(rows("a", "b", page=["/", "/x"]).select(checks.columns), NOW) == GOOD
