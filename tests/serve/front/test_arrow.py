"""Arrow IPC in and out at the front: the numbers of the JSON way, and nothing hostile gets through."""

import math
import random
from datetime import UTC, datetime

import httpx
import pyarrow as pa
import pytest

from rayplat.core.settings import Settings
from rayplat.serve.front.neighbours import Neighbours
from rayplat.serve.keyed import KeyedRequests
from rayplat.serve.log.idempotency import IdempotencyKeys

from .served import MemoryLog, fronted, served

PREDICT = "/v1/endpoints/buys/predict"
KIND = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def log():
    return MemoryLog()


@pytest.fixture(scope="module")
def http(log):
    with fronted(log=log) as front, httpx.Client(base_url=f"http://127.0.0.1:{front.port}") as client:
        yield client


def stream(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        out.write_table(table)
    return sink.getvalue().to_pybytes()


def asked(http, body):
    return http.post(PREDICT, content=body, headers={"content-type": KIND})


def table(**columns):
    return pa.table({"shop": ["north", "south"], "amount": [0.5, 1.0], **columns})


def test_rows_are_answered_in_their_order_with_ids_that_are_logged(http, log):
    at = "2024-03-01T00:00:00+00:00"
    day = pa.array([19_000, None], pa.date32())
    sent = table(
        visits=pa.array([1, None], pa.int16()), day=day, raw=pa.array([b"\0", None])
    ).replace_schema_metadata({"at": at})
    answer = asked(http, stream(sent))
    assert (answer.status_code, answer.headers["content-type"]) == (200, KIND)
    told = pa.ipc.open_stream(answer.content).read_all()
    assert told.column("probability").to_pylist() == pytest.approx(
        [1 / (1 + math.exp(-x)) for x in (0.5, 1.0)], abs=1e-6
    )
    assert told.column("positive").to_pylist() == [True, True]
    assert told.schema.metadata[b"version"] == b"3"
    kept = {r.prediction_id: r for r in log.records}
    records = [kept[one] for one in told.column("prediction_id").to_pylist()]
    assert {r.at for r in records} == {datetime.fromisoformat(at)}
    json = http.post(PREDICT, json={"instances": [{"shop": "north", "amount": 0.5}]}).json()
    assert json["predictions"][0]["probability"] == told.column("probability")[0].as_py()


def test_a_time_without_a_zone_is_in_utc(http, log):
    when = pa.array([datetime(2024, 3, 1), None], pa.timestamp("ms"))  # noqa: DTZ001
    assert asked(http, stream(table(when=when))).status_code == 200
    assert '"2024-03-01T00:00:00+00:00"' in log.records[-2].request
    assert datetime(2024, 3, 1, tzinfo=UTC).isoformat() in log.records[-2].request


NO_SHOP = pa.table(
    {"shop": [None], "amount": [1.0]}, schema=pa.schema([("shop", pa.string()), ("amount", pa.float64())])
)


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (pa.table({"shop": ["a"]}), "amount: missing"),
        (NO_SHOP, "shop: null"),
        (table(oops=[1, 2]), "no such column"),
        (table(visits=[2**40, 1]), "visits: "),
        (table(visits=["a", "b"]), "visits: string, not int32"),
        (pa.table({"shop": [1], "amount": [1.0]}), "shop: int64, not string"),
        (pa.table({"shop": ["a"], "amount": [float("nan")]}), "NaN or infinite"),
        (pa.table({"shop": ["a"], "amount": [float("inf")]}), "NaN or infinite"),
        (pa.table({"shop": ["a"], "amount": [[1.0]]}), "amount: list"),
        (table().slice(0, 0), "has 0 rows"),
        (pa.table({"shop": ["a"] * 10_001, "amount": [1.0] * 10_001}), "has 10001 rows"),
        (table().replace_schema_metadata({"at": "soon"}), "at: "),
    ],
)
def test_wrong_columns_are_told_by_name(http, sent, fault):
    answer = asked(http, stream(sent))
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert fault in " ".join(answer.json()["faults"])


def test_a_column_named_twice_is_refused(http):
    twice = pa.table([["a"], ["b"], [1.0]], names=["shop", "shop", "amount"])
    assert asked(http, stream(twice)).status_code == 422


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_what_could_become_larger_than_it_is_is_refused(http, codec):
    large = pa.table({"shop": ["a" * 1_000_000] * 5, "amount": [1.0] * 5})
    answer = asked(http, stream(large, compression=codec))
    assert answer.status_code == 422
    assert "compressed" in answer.text
    encoded = pa.table({"shop": pa.array(["a", "a"]).dictionary_encode(), "amount": [1.0, 1.0]})
    assert asked(http, stream(encoded)).status_code == 422


def test_damaged_streams_never_fail(http):
    seed = random.SystemRandom().getrandbits(32)
    print("seed", seed)
    drawn = random.Random(seed)
    good = stream(table(visits=pa.array([1, 2], pa.int32()), raw=pa.array([b"a", b"bb"])))
    seen = set()
    for _ in range(1500):
        raw = bytearray(good)
        for _ in range(drawn.randrange(1, 4)):
            raw[drawn.randrange(len(raw))] = drawn.randrange(256)
        cut = raw[: drawn.randrange(len(raw))] if drawn.random() < 0.2 else raw
        seen.add(asked(http, bytes(cut)).status_code)
    assert seen <= {200, 400, 422}
    assert asked(http, b"").status_code == 400


def test_a_neighbour_is_asked_in_arrow_too(tmp_path):
    with (
        fronted(neighbours=Neighbours(tmp_path)) as one,
        fronted(served("sells"), neighbours=Neighbours(tmp_path)),
    ):
        url = f"http://127.0.0.1:{one.port}/v1/endpoints/sells/predict"
        answer = httpx.post(url, content=stream(table()), headers={"content-type": KIND})
    assert (answer.status_code, answer.headers["content-type"]) == (200, KIND)
    assert pa.ipc.open_stream(answer.content).schema.metadata[b"endpoint"] == b"sells"


def test_a_key_gives_the_same_stream_once(tmp_path):
    keyed = KeyedRequests(IdempotencyKeys(Settings(home=tmp_path)))
    with fronted(keyed=keyed) as front:
        url = f"http://127.0.0.1:{front.port}{PREDICT}"
        headers = {"content-type": KIND, "idempotency-key": "k"}
        first, second = (httpx.post(url, content=stream(table()), headers=headers) for _ in range(2))
    keyed.close()
    assert (first.status_code, first.headers["content-type"]) == (200, KIND)
    assert (second.content, second.headers["content-type"]) == (first.content, KIND)
