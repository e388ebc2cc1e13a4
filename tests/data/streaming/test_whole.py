"""From a source to a table, whole: formats, envelopes and streams beside Kafka's JSON."""

import io
import json
import uuid
from contextlib import closing

import fastavro
import pyarrow as pa
import pytest

import rayplat as rp
from rayplat.core.events import EventBus
from rayplat.core.project.table import Table
from rayplat.core.settings import KafkaSettings, KinesisSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.quality.reconcile import reconcile
from rayplat.data.streaming.development.mock_cluster import MockCluster
from rayplat.data.streaming.executor import InlineExecutor
from rayplat.data.streaming.ingest import ingest_once
from rayplat.data.streaming.report import IngestReport
from tests.data.streaming.sources.aws_kinesis import REGION, aws_kinesis
from tests.data.worlds import produce

NAME = "raw.orders"
AVRO = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "id", "type": "long"}, {"name": "total", "type": ["null", "double"]}],
}


def orders(source: object, mode: str = "append") -> Table:
    project = rp.Project("shop", owner="ops@example.com")
    columns = {"id": "int64", "total": "float64"}
    return project.table(NAME, columns=columns, key="id", source=source, mode=mode)


def ingest(lake: Lakehouse, table: Table, settings: Settings) -> IngestReport:
    return ingest_once(lake, table, settings, EventBus(), executor=InlineExecutor())


def totals(lake: Lakehouse) -> dict[int, float | None]:
    rows: pa.Table = lake.table(NAME).read(["id", "total"])
    found = dict(zip(rows["id"].to_pylist(), rows["total"].to_pylist(), strict=True))
    assert len(found) == rows.num_rows, "a key is there twice"
    return found


@pytest.fixture
def kafka(settings: Settings, cluster: MockCluster) -> Settings:
    cluster.create("orders", 1)
    return settings.model_copy(update={"kafka": KafkaSettings(bootstrap=cluster.bootstrap)})


def datum(number: int) -> bytes:
    sink = io.BytesIO()
    fastavro.schemaless_writer(sink, AVRO, {"id": number, "total": number / 2})
    return sink.getvalue()


def test_avro_records_become_rows_and_junk_a_dead_letter(
    lake: Lakehouse, kafka: Settings, cluster: MockCluster
) -> None:
    table = orders(rp.Kafka("orders", 1, format=rp.Avro(json.dumps(AVRO))))
    produce(cluster.bootstrap, "orders", 0, [datum(1), b"\xff", datum(2)])
    report = ingest(lake, table, kafka)
    assert (report.rows, report.dead) == (2, 1)
    assert totals(lake) == {1: 0.5, 2: 1.0}
    dead = lake.table("dead.raw_orders").read().to_pylist()
    assert [(d["partition"], d["offset"], d["raw"]) for d in dead] == [("0", "1", b"\xff")]
    assert reconcile(lake, NAME).holds


def change(op: str, number: int, total: float | None = None) -> bytes:
    row = {"id": number, "total": total}
    before, after = (row, None) if op == "d" else (None, row)
    return json.dumps({"op": op, "before": before, "after": after, "source": {"ts_ms": 1}}).encode()


def test_changes_of_a_database_leave_its_last_state(
    lake: Lakehouse, kafka: Settings, cluster: MockCluster
) -> None:
    table = orders(rp.Kafka("orders", 1, envelope=rp.Debezium()), mode="upsert")
    first = [change("r", 1, 1.0), change("c", 2, 2.0), change("c", 3, 3.0), change("u", 2, 2.5)]
    produce(cluster.bootstrap, "orders", 0, first)
    ingest(lake, table, kafka)
    assert totals(lake) == {1: 1.0, 2: 2.5, 3: 3.0}
    then = [change("d", 1), b"{", change("u", 3, 3.5), change("c", 4, 4.0), change("d", 4)]
    produce(cluster.bootstrap, "orders", 0, then)
    report = ingest(lake, table, kafka)
    assert report.dead == 1
    assert totals(lake) == {2: 2.5, 3: 3.5}
    assert ingest(lake, table, kafka).snapshots == ()


def test_raw_records_are_kept_as_they_came(lake: Lakehouse, kafka: Settings, cluster: MockCluster) -> None:
    project = rp.Project("shop", owner="ops@example.com")
    source = rp.Kafka("orders", 1, format=rp.Raw("payload"))
    table = project.table(NAME, columns={"payload": "binary"}, key="payload", source=source)
    produce(cluster.bootstrap, "orders", 0, [b"\x00\xff", b"plain"])
    ingest(lake, table, kafka)
    assert lake.table(NAME).read(["payload"])["payload"].to_pylist() == [b"\x00\xff", b"plain"]


def test_a_stream_of_kinesis_goes_on_behind_a_split(lake: Lakehouse, settings: Settings) -> None:
    from rayplat.data.streaming.sources.kinesis_client import KinesisAddress

    name = f"orders-{uuid.uuid4().hex[:8]}"
    with aws_kinesis() as endpoint, closing(KinesisAddress(REGION, endpoint, "x", "x").connect()) as client:

        def put(*numbers: int) -> None:
            for number in numbers:
                data = json.dumps({"id": number, "total": number / 2}).encode()
                client.put_record(StreamName=name, Data=data, PartitionKey=str(number))

        ready = settings.model_copy(
            update={
                "kinesis": KinesisSettings(region=REGION, endpoint=endpoint, access_key="x", secret_key="x")
            }
        )
        table = orders(rp.Kinesis(name))
        client.create_stream(StreamName=name, ShardCount=1)
        put(*range(10))
        assert ingest(lake, table, ready).rows == 10
        shard = client.list_shards(StreamName=name)["Shards"][0]["ShardId"]
        client.split_shard(StreamName=name, ShardToSplit=shard, NewStartingHashKey=str(2**127))
        put(*range(10, 30))
        while ingest(lake, table, ready).snapshots:
            pass
        assert totals(lake) == {number: number / 2 for number in range(30)}
        assert len(set(lake.table(NAME).read(["_partition"])["_partition"].to_pylist())) == 3
        assert reconcile(lake, NAME).holds
