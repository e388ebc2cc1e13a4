"""Opening: every kind of declared source is opened from settings, in this process and in another."""

import os
import pickle
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import rayplat as rp
from rayplat.core.errors import NotFoundError, UnavailableError, UserError
from rayplat.core.project.table import Table
from rayplat.core.settings import Settings
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.open import opener
from rayplat.data.streaming.sources.source import ENDED, Limit, Source
from tests.data.streaming.sources.source_contract import values_of
from tests.data.worlds import produce
from tests.servers import Aws, moto_server

__all__ = ["moto_server"]


def declared(source: Any) -> Table:
    project = rp.Project("shop", owner="ops@example.com")
    columns = {"id": "int64", "at": "timestamp", "value": "string"}
    return project.table("raw.orders", columns=columns, key="id", event_time="at", source=source)


def changed(settings: Settings, **parts: dict[str, Any]) -> Settings:
    return Settings.model_validate({**settings.model_dump(), **parts})


def all_of(opens: Callable[[], Source]) -> list[bytes | None]:
    """What a source gives to a process that was handed the opener."""
    with pickle.loads(pickle.dumps(opens))() as source:
        values = []
        for partition, mark in source.watermarks().items():
            records = source.read(partition, mark.low, Limit(mark.high, 100))
            values += values_of(records)
        return values


def test_kafka(settings: Settings, cluster: MockCluster) -> None:
    cluster.create("orders", 1)
    produce(cluster.bootstrap, "orders", 0, [b"a", b"b"])
    there = changed(settings, kafka={"bootstrap": cluster.bootstrap})
    assert all_of(opener(declared(rp.Kafka("orders")), there)) == [b"a", b"b"]


def test_kafka_without_a_broker(settings: Settings) -> None:
    with pytest.raises(UnavailableError, match="no Kafka is set"):
        opener(declared(rp.Kafka("orders")), settings)


@pytest.mark.parametrize("where", ["settings", "declaration"])
def test_kinesis(settings: Settings, moto_server: Aws, where: str) -> None:
    name = f"orders-{where}"
    with closing(moto_server.client("kinesis")) as client:
        client.create_stream(StreamName=name, ShardCount=1)
        client.put_record(StreamName=name, Data=b"a", PartitionKey="k")
    place = {"region": moto_server.region, "endpoint": moto_server.endpoint}
    keys = {"access_key": moto_server.access_key, "secret_key": moto_server.secret_key}
    there = changed(settings, kinesis={**keys, **(place if where == "settings" else {})})
    source = rp.Kinesis(name, **(place if where == "declaration" else {}))
    opens = opener(declared(source), there)
    assert all_of(opens) == [b"a"]
    with opens() as opened:
        assert opened.name == f"kinesis:{name}"
        assert opened.wide
        assert opened.watermarks()["shardId-000000000000"].high == ENDED


@pytest.fixture
def shop(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/shop.db"
    engine = sa.create_engine(url)
    columns = (sa.Column("id", sa.Integer), sa.Column("at", sa.DateTime), sa.Column("value", sa.String))
    table = sa.Table("orders", sa.MetaData(), *columns)
    table.create(engine)
    with engine.begin() as connection:
        old = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=1)
        connection.execute(table.insert(), [{"id": i, "at": old, "value": f"{i}"} for i in range(3)])
    engine.dispose()
    return url


def test_a_database_by_its_name_and_by_its_address(settings: Settings, shop: str) -> None:
    named = opener(declared(rp.Database("shop", "orders", "at")), changed(settings, databases={"shop": shop}))
    direct = opener(declared(rp.Database(shop, "orders", "at")), settings)
    assert all_of(named) == all_of(direct) == [b"0", b"1", b"2"]
    with named() as source, direct() as other:
        assert source.name == "database:shop/orders"
        assert other.name == f"database:{shop}/orders"


def test_a_relative_address_is_that_of_the_working_folder(
    settings: Settings, shop: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    opens = opener(declared(rp.Database("sqlite:///shop.db", "orders", "at")), settings)
    monkeypatch.chdir("/")
    assert len(all_of(opens)) == 3


def test_a_database_that_the_settings_do_not_have(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="'crm'") as raised:
        opener(declared(rp.Database("crm", "t", "at")), changed(settings, databases={"shop": "sqlite:///x"}))
    assert "databases.crm" in raised.value.mend
    assert "shop" in raised.value.mend


def test_files_of_a_folder_below_the_working_folder(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.json"
    path.write_bytes(b"1\n2\n")
    (tmp_path / "in" / "a.csv").write_bytes(b"value\n3\n")
    os.utime(path, (time.time() - 60,) * 2)
    monkeypatch.chdir(tmp_path)
    opens = opener(declared(rp.Files("in", pattern="*.json")), settings)
    monkeypatch.chdir("/")
    assert all_of(opens) == [b"1", b"2"]
    with opens() as source:
        assert source.name == "files:in"


def test_a_table_without_a_stream(settings: Settings) -> None:
    for source in (None, rp.Reference(lambda: None)):
        with pytest.raises(UserError, match="is not fed by a stream"):
            opener(declared(source), settings)
