"""The database reader: the contract of sources on SQLite and Postgres, and what only a table does."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rayplat.core.errors import IntegrityError, NotFoundError, UnavailableError, UserError
from rayplat.core.project.table import Column
from rayplat.data.streaming.sources.database import PARTITION, DatabaseSource
from rayplat.data.streaming.sources.source import Limit, Source, check_offsets
from tests.data.streaming.sources.source_contract import EVERYTHING, SourceContract, values_of
from tests.servers import fresh_database, postgres_url

__all__ = ["postgres_url"]
COLUMNS = {"id": Column("int64", nullable=False), "value": Column("string"), "at": Column("timestamp")}
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.db"
    return fresh_database(request.getfixturevalue("postgres_url"))


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


def orders(engine: sa.Engine, name: str = "orders") -> sa.Table:
    table = sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True)),
        sa.Column("value", sa.String),
    )
    table.create(engine)
    return table


def insert(engine: sa.Engine, table: sa.Table, rows: Sequence[tuple[int, datetime | None]]) -> None:
    with engine.begin() as connection:
        made = [{"id": i, "at": at, "value": str(i)} for i, at in rows]
        connection.execute(table.insert(), made)


def by_time(url: str, **changed: Any) -> DatabaseSource:
    given: dict[str, Any] = {"key": ["id"], "columns": COLUMNS, **changed}
    return DatabaseSource(url, "orders", "at", **given)


class _OneTable(SourceContract):
    partition, empty, wide = PARTITION, None, True

    def end(self) -> int:
        # A read that has all rows of a watermark goes on behind the watermark.
        return ((self.offsets[9] >> 40) + 1) << 40


class TestByTime(_OneTable):
    @pytest.fixture
    def source(self, url: str, engine: sa.Engine) -> Iterator[Source]:
        insert(engine, orders(engine), [(i, NOON + timedelta(seconds=i)) for i in range(10)])
        begin = int(NOON.timestamp()) * 10**6
        self.offsets = [begin + i * 10**6 << 40 for i in range(10)]
        with by_time(url) as source:
            yield source

    def test_offsets_that_went_back(self, source: Source) -> None:
        with pytest.raises(IntegrityError, match="offsets went back"):
            source.read(PARTITION, int(datetime.now(UTC).timestamp() + 60) * 10**6 << 40, EVERYTHING)


class TestByNumber(_OneTable):
    @pytest.fixture
    def source(self, url: str, engine: sa.Engine) -> Iterator[Source]:
        insert(engine, orders(engine), [(i, None) for i in range(10)])
        self.offsets = [i << 40 for i in range(10)]
        with DatabaseSource(url, "orders", "id", key=["id"], columns=COLUMNS) as source:
            yield source


def read_all(source: DatabaseSource, start: int, rows: int) -> tuple[list[bytes | None], int]:
    values: list[bytes | None] = []
    while True:
        mark = source.watermarks()[PARTITION]
        records = source.read(PARTITION, start, Limit(mark.high, rows))
        if records.next_offset <= start:
            return values, start
        assert list(records.offsets) == sorted(set(records.offsets))
        assert all(start <= offset < records.next_offset for offset in records.offsets)
        values += values_of(records)
        start = records.next_offset


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 50])
def test_rows_of_equal_watermarks_are_each_read_once(url: str, engine: sa.Engine, rows: int) -> None:
    rng = random.Random(rows)
    table = orders(engine)
    ids = list(range(30))
    rng.shuffle(ids)
    insert(engine, table, [(i, NOON + timedelta(seconds=i // 6)) for i in ids])
    with by_time(url) as source:
        low = source.watermarks()[PARTITION].low
        values, end = read_all(source, low, rows)
        assert values == [str(i).encode() for i in range(30)]
        insert(engine, table, [(99, NOON + timedelta(minutes=1))])
        assert read_all(source, end, rows)[0] == [b"99"]


def test_a_read_ends_between_watermarks_where_it_can(url: str, engine: sa.Engine) -> None:
    """So that a deleted row does not shift its neighbours."""
    table = orders(engine)
    insert(engine, table, [(i, NOON + timedelta(seconds=i // 4)) for i in range(12)])
    with by_time(url) as source:
        first = source.read(PARTITION, source.watermarks()[PARTITION].low, Limit(10**130, 6))
        assert values_of(first) == [b"0", b"1", b"2", b"3"]
        with engine.begin() as connection:
            connection.execute(table.delete().where(table.c.id.in_([1, 5])))
        assert read_all(source, first.next_offset, 6)[0] == [b"4", b"6", b"7", b"8", b"9", b"10", b"11"]


def test_rows_deleted_inside_a_crowded_watermark_do_not_eat_the_next(url: str, engine: sa.Engine) -> None:
    table = orders(engine)
    insert(engine, table, [(i, NOON) for i in range(6)])
    insert(engine, table, [(10, NOON + timedelta(seconds=1))])
    with by_time(url) as source:
        first = source.read(PARTITION, source.watermarks()[PARTITION].low, Limit(10**130, 4))
        with engine.begin() as connection:
            connection.execute(table.delete().where(table.c.id < 6))
        assert read_all(source, first.next_offset, 4)[0] == [b"10"]


def test_what_is_not_settled_is_left_for_later(url: str, engine: sa.Engine) -> None:
    """A transaction that commits later with an earlier time is not missed."""
    table = orders(engine)
    clock = datetime.now(UTC)
    insert(engine, table, [(1, clock - timedelta(seconds=30)), (3, clock - timedelta(seconds=1))])
    with by_time(url, settle=timedelta(seconds=10)) as source:
        values, end = read_all(source, source.watermarks()[PARTITION].low, 10)
        assert values == [b"1"]
        insert(engine, table, [(2, clock - timedelta(seconds=2))])
    with by_time(url, settle=timedelta(0)) as later:
        assert read_all(later, end, 10)[0] == [b"2", b"3"]


def test_a_late_row_of_a_watermark_that_was_read_is_not_seen(url: str, engine: sa.Engine) -> None:
    """What the docs say, shown: this is what `settle` is for."""
    table = orders(engine)
    insert(engine, table, [(1, NOON)])
    with by_time(url) as source:
        end = read_all(source, source.watermarks()[PARTITION].low, 10)[1]
        insert(engine, table, [(2, NOON)])
        assert read_all(source, end, 10)[0] == []


def test_an_updated_row_comes_again(url: str, engine: sa.Engine) -> None:
    table = orders(engine)
    insert(engine, table, [(1, NOON), (2, NOON)])
    with by_time(url) as source:
        end = read_all(source, source.watermarks()[PARTITION].low, 10)[1]
        with engine.begin() as connection:
            later = {"at": NOON + timedelta(seconds=9), "value": "new"}
            connection.execute(table.update().where(table.c.id == 1).values(later))
        assert read_all(source, end, 10)[0] == [b"new"]


def test_rows_without_a_watermark_are_counted_once_and_not_read(
    url: str, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    insert(engine, orders(engine), [(1, None), (2, NOON), (3, None)])
    with by_time(url) as source:
        assert read_all(source, source.watermarks()[PARTITION].low, 10)[0] == [b"2"]
    told = [text for text in caplog.messages if "without a watermark" in text]
    assert len(told) == 1
    assert "rows=2" in told[0]


def test_deleting_the_newest_rows_is_no_error_by_time_and_one_by_number(url: str, engine: sa.Engine) -> None:
    table = orders(engine)
    insert(engine, table, [(1, NOON), (2, NOON + timedelta(seconds=1))])
    number = DatabaseSource(url, "orders", "id", key=["id"], columns=COLUMNS)
    with by_time(url) as time, number:
        ends = [read_all(s, s.watermarks()[PARTITION].low, 10)[1] for s in (time, number)]
        with engine.begin() as connection:
            connection.execute(table.delete().where(table.c.id == 2))
        check_offsets(time.name, {PARTITION: ends[0]}, time.watermarks())
        assert read_all(time, ends[0], 10) == ([], ends[0])
        with pytest.raises(IntegrityError, match="offsets went back"):
            check_offsets(number.name, {PARTITION: ends[1]}, number.watermarks())


def test_an_empty_table(url: str, engine: sa.Engine) -> None:
    orders(engine)
    with by_time(url) as source:
        mark = source.watermarks()[PARTITION]
        assert mark.low == mark.high
        assert source.read(PARTITION, mark.low, EVERYTHING).next_offset == mark.low


def test_negative_watermarks_are_in_order(url: str, engine: sa.Engine) -> None:
    insert(engine, orders(engine), [(i, None) for i in (-5, -1, 0, 3)])
    with DatabaseSource(url, "orders", "id", key=["id"], columns=COLUMNS) as source:
        assert read_all(source, source.watermarks()[PARTITION].low, 1)[0] == [b"-5", b"-1", b"0", b"3"]


def test_a_value_that_does_not_fit_makes_its_row_bad(url: str, engine: sa.Engine) -> None:
    insert(engine, orders(engine), [(1, NOON), (2, NOON + timedelta(seconds=1))])
    columns = {"id": Column("int64"), "value": Column("int64")}
    with by_time(url, columns=columns) as source:
        records = source.read(PARTITION, source.watermarks()[PARTITION].low, EVERYTHING)
    assert sorted(records.bad) == list(records.offsets)
    assert "value should be int64" in records.bad[records.offsets[0]]
    assert records.describe is not None
    assert records.describe(1).raw == b'{"id":2,"value":"2"}'


def test_a_column_that_the_database_lacks_is_null(url: str, engine: sa.Engine) -> None:
    insert(engine, orders(engine), [(1, NOON)])
    with by_time(url, columns={**COLUMNS, "more": Column("float64")}) as source:
        records = source.read(PARTITION, source.watermarks()[PARTITION].low, EVERYTHING)
    assert records.frame is not None
    assert records.frame.rows() == [(1, "1", NOON, None)]


def test_a_time_without_a_zone_is_utc(url: str, engine: sa.Engine) -> None:
    table = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("at", sa.DateTime()))
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [{"id": 1, "at": NOON.replace(tzinfo=None)}])
    with by_time(url) as source:
        records = source.read(PARTITION, source.watermarks()[PARTITION].low, EVERYTHING)
    assert list(records.offsets) == [int(NOON.timestamp()) * 10**6 << 40]
    assert records.frame is not None
    assert records.frame["at"].to_list() == [NOON]


def test_what_is_not_there_is_named(url: str, engine: sa.Engine) -> None:
    orders(engine)
    for wrong, kind, match in [
        (DatabaseSource(url, "nowhere", "at", key=["id"], columns=COLUMNS), NotFoundError, "nowhere"),
        (DatabaseSource(url, "orders", "ad", key=["id"], columns=COLUMNS), NotFoundError, "'ad'"),
        (DatabaseSource(url, "orders", "at", key=["idd"], columns=COLUMNS), NotFoundError, "'idd'"),
        (DatabaseSource(url, "orders", "value", key=["id"], columns=COLUMNS), UserError, "not a timestamp"),
    ]:
        with wrong, pytest.raises(kind, match=match):
            wrong.watermarks()


def test_a_database_that_does_not_answer() -> None:
    source = DatabaseSource("postgresql://u:secret@127.0.0.1:1/x", "t", "at", key=["id"], columns=COLUMNS)
    with source, pytest.raises(UnavailableError) as raised:
        source.watermarks()
    assert "secret" not in str(raised.value)
    assert source.name == "database:postgresql://127.0.0.1:1/x/t"


def test_an_address_that_is_none() -> None:
    with pytest.raises(UserError, match="no database"):
        DatabaseSource("nonsense", "t", "at", key=["id"], columns=COLUMNS).watermarks()
