import math
import random
import socket
import threading
import time
from dataclasses import replace
from urllib.parse import quote

import httpx
import orjson
import pytest

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.project.table import Column
from rayplat.serve.admission.decision import Admitted, Refused
from rayplat.serve.front.neighbours import Neighbours

from .served import FORM, MemoryLog, Uncharged, exchanged, fronted, good, question, served

PREDICT = "/v1/endpoints/buys/predict"


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.fixture(scope="module")
def log():
    return MemoryLog()


@pytest.fixture(scope="module")
def front(log):
    with fronted(log=log) as made:
        yield made


@pytest.fixture(scope="module")
def http(front):
    with httpx.Client(base_url=f"http://127.0.0.1:{front.port}") as client:
        yield client


def test_an_answer_has_an_id_a_version_and_the_time_of_its_features_and_is_logged(http, log):
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "idempotency-key": "k1"}
    answer = http.post(PREDICT, content=good(0.5), headers=headers)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["endpoint"], told["model"], told["version"]) == ("buys", "buys", 3)
    one = told["predictions"][0]
    assert one["probability"] == pytest.approx(sigmoid(0.5), abs=1e-6)
    assert one["features_of"] == {"price": "2024-03-01T00:00:00+00:00"}
    kept = next(r for r in log.records if r.prediction_id == one["id"])
    assert (kept.trace_id, kept.idempotency_key, kept.caller) == (trace, "k1", "anonymous")


def test_the_older_path_answers_the_same(http):
    assert http.post("/endpoints/buys/predict", content=good()).json()["version"] == 3


def test_the_open_inference_protocol(http, log):
    inputs = [
        {"name": "shop", "datatype": "BYTES", "shape": [2], "data": ["north", "south"]},
        {"name": "amount", "datatype": "FP64", "shape": [2, 1], "data": [[0.5], [1]]},
    ]
    told = http.post("/v2/models/buys/infer", json={"id": "mine", "inputs": inputs}).json()
    assert (told["id"], told["model_name"], told["model_version"]) == ("mine", "buys", "3")
    outputs = {one["name"]: one for one in told["outputs"]}
    assert outputs["probability"]["data"] == pytest.approx([sigmoid(0.5), sigmoid(1)], abs=1e-6)
    assert outputs["probability"]["shape"] == [2]
    assert {r.prediction_id for r in log.records} >= set(outputs["prediction_id"]["data"])
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/buys", "/v2/models/buys/ready"):
        assert http.get(path).status_code == 200
    named = {one["name"]: one["datatype"] for one in http.get("/v2/models/buys").json()["inputs"]}
    assert (named["shop"], named["amount"], named["visits"]) == ("BYTES", "FP64", "INT32")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": []},
        {"inputs": [7]},
        {"inputs": [{"name": "shop", "shape": [2], "data": ["a"]}]},
        {"inputs": [{"name": "shop", "shape": [1], "data": "a"}]},
        {"inputs": [{"name": "shop", "shape": [1], "data": ["a"]}] * 2},
        {"inputs": [{"name": "nothing", "shape": [1], "data": ["a"]}]},
        {"inputs": [{"name": "shop", "shape": [0], "data": []}]},
    ],
)
def test_wrong_tensors_are_the_callers_fault(http, body):
    answer = http.post("/v2/models/buys/infer", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["faults"]


def test_a_column_of_vectors_is_a_tensor_of_two_dimensions():
    form = replace(FORM, columns={**FORM.columns, "seen": Column("vector(2)")})
    with fronted(replace(served(), form=form)) as front:
        url = f"http://127.0.0.1:{front.port}/v2/models/buys"
        shapes = {one["name"]: (one["datatype"], one["shape"]) for one in httpx.get(url).json()["inputs"]}
        assert (shapes["seen"], shapes["amount"]) == (("FP32", [-1, 2]), ("FP64", [-1]))
        rest = [
            {"name": "shop", "datatype": "BYTES", "shape": [2], "data": ["north", "south"]},
            {"name": "amount", "datatype": "FP64", "shape": [2], "data": [0.5, 1]},
        ]
        for data, shape, status in (
            ([1, 2, 3, 4], [2, 2], 200),
            ([[1, 2], [3, 4]], [2, 2], 200),
            ([1, 2, 3], [2, 2], 422),
            ([[1, 2], [3]], [2, 2], 422),
            ([1, 2, 3, 4], [4], 422),
            ([1, 2, 3, 4], [1, 4], 422),
        ):
            seen = {"name": "seen", "datatype": "FP32", "shape": shape, "data": data}
            answer = httpx.post(f"{url}/infer", json={"inputs": [*rest, seen]})
            assert (data, shape, answer.status_code) == (data, shape, status)


def test_the_openapi_document_has_the_columns_of_the_model(http):
    told = http.get("/v1/endpoints/buys/openapi.json").json()
    content = told["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]
    instance = content["schema"]["properties"]["instances"]["items"]
    assert instance["required"] == ["shop", "amount"]
    assert instance["properties"]["amount"] == {"type": ["number", "null"]}
    assert http.post(PREDICT, json=content["example"]).status_code == 200  # the example can be asked


def test_problems_are_documents_with_every_fault(http, log):
    before = len(log.records)
    answer = http.post(PREDICT, json={"instances": [{"shop": 7, "oops": 1}]})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    told = answer.json()
    assert (told["type"], told["status"]) == ("about:blank", 422)
    assert len(told["faults"]) == 3
    wrong = http.get(PREDICT)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert http.get("/nothing").status_code == 404
    assert http.head("/v2").content == b""
    assert len(log.records) == before


HOSTILE = [
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"instances":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"instances":[{"shop":' + b"[" * 500 + b"]" * 500 + b',"amount":1}]}',
    b'{"instances":[{"shop":"a","amount":NaN}]}',
    b'{"instances":[{"shop":"a","amount":1e999}]}',
    b'{"instances":[{"shop":"a","amount":Infinity}]}',
    b'{"instances":[{"shop":"\\ud800","amount":1}]}',
    b'{"instances":[{"shop":"a","amount":1,"day":"0000-00-00"}]}',
    b'{"instances":[{"shop":"a","amount":1,"raw":"*"}]}',
    b'{"instances":[{"shop":"a","amount":1,"visits":1e3}]}',
    b'{"instances":[{"shop":"a","amount":1,"visits":99999999999999999999}]}',
    b'{"instances":[{"shop":"a","amount":1,"when":"0001-01-01T00:00:00+23:59"}]}',
    b'{"instances":[{"shop":"a","amount":1}],"at":[[]]}',
    b'{"instances":[{"shop":"a","amount":1}],"at":1e400}',
    b'{"instances":[]}',
    b'{"instances":null}',
    b"null",
    b"",
]


@pytest.mark.parametrize("path", [PREDICT, "/v2/models/buys/infer"])
def test_hostile_bodies_are_refused_and_never_fail(http, path):
    assert [
        (body[:40], status)
        for body in HOSTILE
        if not 400 <= (status := http.post(path, content=body).status_code) < 500
    ] == []


def test_generated_bodies_never_fail(http):
    seed = random.SystemRandom().getrandbits(32)
    print("seed", seed)
    drawn = random.Random(seed)
    values = [None, True, 0, -1, 2**63, 1e308, "", "a", "\x00", [], {}, [[1]], {"a": 1}, "2024-01-01"]
    names = ["shop", "amount", "day", "raw", "when", "visits", "at", "instances", ""]

    def value(depth):
        kind = drawn.random()
        if depth > 3 or kind < 0.6:
            return drawn.choice(values)
        if kind < 0.8:
            return [value(depth + 1) for _ in range(drawn.randrange(4))]
        return {drawn.choice(names): value(depth + 1) for _ in range(drawn.randrange(5))}

    for _ in range(1500):
        body = {"instances": [value(0) for _ in range(drawn.randrange(3))], "at": drawn.choice(values)}
        raw = bytearray(orjson.dumps(body))
        if drawn.random() < 0.3:
            raw[drawn.randrange(len(raw))] = drawn.randrange(256)
        assert http.post(PREDICT, content=bytes(raw)).status_code in (200, 400, 422)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nhost: x\r\na: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /v2 HTTP/1.1\r\nhost: x\r\na: " + b"a" * 20_000, 431),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n", 413),
        (question(b"{}", headers="idempotency-key: " + "k" * 300 + "\r\n"), 400),
    ],
)
def test_heads_that_cannot_be_read_are_refused(front, data, status):
    assert exchanged(front.port, data)[:12] == f"HTTP/1.1 {status}".encode()


def test_a_hundred_megabytes_are_refused_and_the_caller_is_told(front):
    begin = time.monotonic()
    answer = httpx.post(f"http://127.0.0.1:{front.port}{PREDICT}", content=b" " * 100_000_000)
    assert answer.status_code == 413
    assert time.monotonic() - begin < 5


def test_requests_that_are_sent_ahead_are_answered_in_their_order(front):
    asked = b"".join(question(good(i / 10)) for i in range(20))
    told = exchanged(front.port, asked)
    found = [orjson.loads(part.split(b"\r\n\r\n")[1]) for part in told.split(b"HTTP/1.1 200 OK")[1:]]
    assert [one["predictions"][0]["probability"] for one in found] == [
        pytest.approx(sigmoid(i / 10), abs=1e-6) for i in range(20)
    ]


def test_a_request_that_arrives_by_bytes_is_answered(front):
    data = question(good())
    with socket.create_connection(("127.0.0.1", front.port), timeout=5) as peer:
        for i in range(len(data)):
            peer.sendall(data[i : i + 1])
        assert peer.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_who_sends_too_slowly_is_dropped_and_others_are_answered():
    with fronted(stalled_s=0.3) as front:
        slow = [socket.create_connection(("127.0.0.1", front.port), timeout=5) for _ in range(50)]
        for one in slow:
            one.sendall(b"POST /v1/endpoints/buys/predict HTTP/1.1\r\n")
        assert exchanged(front.port, question(good())).startswith(b"HTTP/1.1 200")
        for one in slow:
            try:
                assert one.recv(1) == b""
            except ConnectionResetError:
                pass
            finally:
                one.close()


def test_ten_thousand_hostile_names_are_not_found(tmp_path, front):
    (tmp_path / "secret.1").write_text(str(front.private_port))
    seed = random.SystemRandom().getrandbits(32)
    print("seed", seed)
    drawn = random.Random(seed)
    pieces = [
        "..",
        "/",
        "\\",
        "%2e",
        "%2f",
        "\x00",
        "*",
        "?",
        "[a]",
        "~",
        "\n",
        "é",
        "secret",
        ".",
        "buys",
        "'",
    ]
    with fronted(neighbours=Neighbours(tmp_path / "near")) as near:
        names = ["".join(drawn.choices(pieces, k=drawn.randrange(2, 9))) for _ in range(10_000)]
        asked = [f"GET /endpoints/../{quote(n)} HTTP/1.1\r\nhost: x\r\n\r\n".encode() for n in names]
        seen = b""
        with socket.create_connection(("127.0.0.1", near.port), timeout=20) as peer:
            for start in range(0, len(asked), 100):
                peer.sendall(b"".join(asked[start : start + 100]))
                while seen.count(b"HTTP/1.1 ") < start + 100:
                    seen += peer.recv(1 << 18)
        assert seen.count(b"HTTP/1.1 404") == len(names)


class Keeper(Uncharged):
    """Lets in nobody, or whoever says `yes`."""

    def check(self, header, endpoint, rows, now):
        if header == b"Bearer yes":
            return Admitted("ann")
        return Refused(429, "over the limit", 2.3) if header else Refused(401, "a token is needed")

    def waited(self, seconds):
        assert seconds >= 0

    def close(self):
        raise AssertionError("who made it closes it")


def test_admission_is_asked_before_the_body_is_read():
    log = MemoryLog()
    with fronted(log=log, admission=Keeper()) as front:
        unknown = httpx.post(f"http://127.0.0.1:{front.port}{PREDICT}", content=b"{")
        assert (unknown.status_code, unknown.headers["www-authenticate"][:6]) == (401, "Bearer")
        url = f"http://127.0.0.1:{front.port}{PREDICT}"
        over = httpx.post(url, content=good(), headers={"authorization": "Bearer no"})
        assert (over.status_code, over.headers["retry-after"]) == (429, "3")
        assert log.records == []
        assert httpx.post(url, content=good(), headers={"authorization": "Bearer yes"}).status_code == 200
        assert log.records[0].caller == "ann"


def test_without_a_durable_record_there_is_no_answer():
    log = MemoryLog()
    log.error = UnavailableError("disk full")
    with fronted(log=log) as front:
        told = exchanged(front.port, question(good()))
        assert told.startswith(b"HTTP/1.1 503")
        assert b"probability" not in told


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("secret"), 500), (UserError("too old"), 422)])
def test_a_failure_is_told_without_its_trace(error, status):
    def failing(instances, at):
        raise error

    with fronted(served(lookup=failing)) as front:
        told = exchanged(front.port, question(good()))
        assert told.startswith(f"HTTP/1.1 {status}".encode())
        assert b"secret" not in told


def test_requests_that_wait_for_a_slow_model_are_one_batch():
    sizes = []

    def slow(x):
        sizes.append(len(x))
        time.sleep(0.05)
        return x[:, 0]

    with fronted(served(network=slow)) as front:
        exchanged(front.port, question(good()))  # from now on it is known to be slow
        sizes.clear()
        told = []
        asking = [
            threading.Thread(target=lambda: told.append(exchanged(front.port, question(good()))))
            for _ in range(20)
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        assert {t[:12] for t in told} == {b"HTTP/1.1 200"}
        # A network is handed multiples of LANES rows, so its rows do not tell how many were asked.
        assert len(told) == 20
        assert len(sizes) < 8


def test_what_was_asked_before_the_end_is_answered():
    begun = threading.Event()

    def slow(x):
        begun.set()
        time.sleep(0.3)
        return x[:, 0]

    with fronted(served(network=slow)) as front, socket.create_connection(("127.0.0.1", front.port)) as peer:
        peer.sendall(question(good()))
        assert peer.recv(1 << 16)  # from now on it is known to be slow, and runs beside the loop
        begun.clear()
        peer.sendall(question(good()))
        assert begun.wait(5)
        front.close()
        told = peer.recv(1 << 16)
        assert told.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in told


def test_a_neighbour_is_asked_for_its_endpoint_and_a_dead_one_is_forgotten(tmp_path):
    with (
        fronted(neighbours=Neighbours(tmp_path)) as one,
        fronted(served("sells"), neighbours=Neighbours(tmp_path), port=one.port) as other,
    ):
        assert other.port == one.port
        dead = tmp_path / "sells.0-1"
        dead.write_text("1")
        url = f"http://127.0.0.1:{one.port}/v1/endpoints"
        for _ in range(40):  # connections of their own: the kernel gives them to both
            for name in ("buys", "sells"):
                answer = httpx.post(f"{url}/{name}/predict", content=good())
                assert (answer.status_code, answer.json()["endpoint"]) == (200, name)
        assert httpx.post(f"{url}/nobody/predict", content=good()).status_code == 404
        assert not dead.exists()
    assert list(tmp_path.iterdir()) == []
