"""What a server refuses, and that it goes on answering afterwards."""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.features.server import world
from tests.features.server.running import Server, serving

VIEW = "/v1/features/last"
FEAST = "/get-online-features"
ENTITIES = {"entity": ["a"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("refusing")
    world.fill(folder)
    with serving(folder) as running:
        yield running
        assert running.ask("POST", VIEW, {"keys": ["a"]}).status == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        (VIEW, b"{", 400, "not JSON"),
        (VIEW, b"", 400, "not JSON"),
        (VIEW, b"[" * 100_000, 400, "not JSON"),
        (VIEW, b'{"keys":' + b"[" * 3_000 + b"]" * 3_000 + b"}", 400, "not JSON"),
        (VIEW, b'{"keys": ["\xff"]}', 400, "not JSON"),
        (VIEW, b"[1]", 400, "a list, not an object"),
        (VIEW, {"keys": "a"}, 400, "'keys' is a text"),
        (VIEW, {}, 400, "'keys' is nothing"),
        (VIEW, {"keys": ["a"] * 10_001}, 413, "10001 keys"),
        (VIEW, {"keys": [7]}, 422, "entity = 7"),
        (VIEW, {"keys": [True]}, 422, "True"),
        (VIEW, {"keys": [["a", "b"]]}, 422, "not made of 1"),
        (VIEW, {"keys": [{"entity": "a"}]}, 422, "not a string"),
        (VIEW, {"keys": ["a"], "at": "yesterday"}, 422, "not a time"),
        (VIEW, {"keys": ["a"], "at": "2013-03-01T00:00:00"}, 422, "not a time"),
        (VIEW, {"keys": ["a"], "at": "1990-01-01T00:00:00Z"}, 422, "behind the newest row"),
        ("/v1/features/nowhere", {"keys": ["a"]}, 404, "no view 'nowhere'"),
        ("/v1/features/never", {"keys": [1]}, 503, "never materialized"),
        ("/v1/features/trip", {"keys": [1]}, 405, "use GET"),
        ("/somewhere", {}, 404, "nothing at"),
        (FEAST, {"features": ["nowhere:x"], "entities": ENTITIES}, 404, "no view"),
        (FEAST, {"features": ["last:y"], "entities": ENTITIES}, 404, "no feature 'y'"),
        (FEAST, {"features": [], "entities": ENTITIES}, 400, "'features'"),
        (FEAST, {"features": ["last"]}, 400, "'entities' is nothing"),
        (FEAST, {"features": ["last"], "entities": {}}, 400, "at least one column"),
        (FEAST, {"features": ["last"], "entities": {"entity": "a"}}, 400, "not lists"),
        (FEAST, {"features": ["last"], "entities": {"entity": ["a"], "b": []}}, 400, "different lengths"),
        (FEAST, {"features": ["last"], "entities": {"user": ["a"]}}, 422, "no view takes"),
        (FEAST, {"features": ["last:x", "old:x"], "entities": ENTITIES}, 422, "twice"),
        (FEAST, {"feature_service": "nothing", "entities": ENTITIES}, 404, "no model"),
        (FEAST, {"features": ["last"], "entities": {"entity": [3.5]}}, 422, "not a string"),
    ],
)
def test_a_faulty_question_is_told_its_fault(server, path, body, status, told):
    answer = server.ask("POST", path, body)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert told in answer.json["detail"]
    assert "Traceback" not in answer.body.decode()


def test_a_connection_is_kept_after_a_faulty_question(server):
    with server.connect() as client:
        assert client.ask("POST", VIEW, b"nonsense").status == 400
        assert client.ask("POST", VIEW, {"keys": ["a"]}).status == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST /v1/features/last HTTP/1.1\r\nContent-Length: ten\r\n\r\n", 400),
        (b"POST /v1/features/last HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/features/last HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /v1/features/last HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST /v1/features/last HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"x" * 40_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_told_so_and_the_connection_closed(server, sent, status):
    with server.connect() as client:
        client.socket.sendall(sent)
        answer = client.answer()
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        with suppress(ConnectionResetError):
            assert client.closed()


def test_methods_and_old_clients(server):
    answer = server.ask("DELETE", VIEW)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")
    assert server.ask("HEAD", "/healthz").body == b""
    with server.connect() as client:
        client.socket.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert client.answer().headers["connection"] == "close"
        assert client.closed()


def test_a_request_that_comes_byte_by_byte_and_one_that_asks_before_its_body(server):
    body = b'{"keys":["a"]}'
    head = b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n" % (VIEW.encode(), len(body))
    with server.connect() as client:
        for byte in head + b"\r\n" + body:
            client.socket.sendall(bytes([byte]))
            time.sleep(0.0002)
        assert client.answer().status == 200
        client.socket.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert client.answer().status == 100
        client.socket.sendall(body)
        assert client.answer().json["values"][0][0] == 2.5
