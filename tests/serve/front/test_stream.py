"""Answers in parts, over real sockets."""

import asyncio
import contextlib
import socket
import threading
import time
from dataclasses import replace

import httpx
import orjson
import pytest

from rayplat.core.errors import UnavailableError
from rayplat.core.settings import Settings
from rayplat.features.server.process import Where
from rayplat.serve.admission.admission import OpenDoor
from rayplat.serve.front.accept import Accepts, accepts
from rayplat.serve.front.listener import Front, Fronted
from rayplat.serve.front.neighbours import Neighbours
from rayplat.serve.keyed import KeyedRequests
from rayplat.serve.log.idempotency import IdempotencyKeys
from rayplat.serve.stream_run import Parts

from .served import MemoryLog, fronted, good, question, served

PREDICT = "/v1/endpoints/buys/predict"
EVENTS = {"accept": "text/event-stream"}
LINES = {"accept": "application/jsonl"}


class Told:
    """A generator that can be held, made to fail, and asked what became of it."""

    def __init__(self, count=3, *, pause_s=0.0, part=None, fails_at=None):
        self.count, self.pause_s, self.part, self.fails_at = count, pause_s, part, fails_at
        self.closed = threading.Event()
        self.made = 0
        self.runs = []

    def __call__(self, run):
        self.runs.append(run)
        try:
            for i in range(self.count):
                if i == self.fails_at:
                    raise ValueError("the generator's own affair")
                self.made += 1
                yield {"i": i} if self.part is None else self.part
                time.sleep(self.pause_s)
        finally:
            self.closed.set()


def streaming(generate, **more):
    return replace(served(), parts=Parts(generate, {3: "the network"}, **more))


def events(text):
    """SSE text as (name, data)."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))))
    return found


def url(front):
    return f"http://127.0.0.1:{front.port}{PREDICT}"


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_id_comes_first_then_parts_and_done_once_the_record_is_durable():
    told, log = Told(), MemoryLog()
    with fronted(streaming(told), log=log) as front:
        answer = httpx.post(url(front), content=good(0.5), headers=EVENTS)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        names, data = zip(*events(answer.text), strict=True)
        assert names == ("prediction", "part", "part", "part", "done")
        one = data[0]["predictions"][0]
        assert data[1:4] == ({"i": 0}, {"i": 1}, {"i": 2})
        assert data[4] == {"ids": [one["id"]], "parts": 3}
        (record,) = log.records
        assert (record.prediction_id, record.probability) == (one["id"], one["probability"])
        assert orjson.loads(record.output) == {"parts": [{"i": 0}, {"i": 1}, {"i": 2}], "ended": "whole"}
        run = told.runs[0]
        assert (run.instance["shop"], run.features, run.version) == ("north", {"amount": 0.5}, 3)
        assert (run.network, run.probability) == ("the network", record.probability)


def test_openapi_tells_the_forms():
    with fronted(streaming(Told())) as front:
        told = httpx.get(f"http://127.0.0.1:{front.port}/v1/endpoints/buys/openapi.json").json()
        content = told["paths"][PREDICT]["post"]["responses"]["200"]["content"]
        assert {"application/json", "text/event-stream", "application/jsonl"} <= set(content)


def test_lines_of_json_and_an_asynchronous_generator():
    async def told(run):
        for i in range(2):
            await asyncio.sleep(0)
            yield [run.instance["amount"], i, float("nan")]

    with fronted(streaming(told)) as front:
        answer = httpx.post(url(front), content=good(0.5), headers=LINES)
        assert answer.headers["content-type"] == "application/jsonl"
        lines = [orjson.loads(line) for line in answer.text.splitlines()]
        assert [one["event"] for one in lines] == ["prediction", "part", "part", "done"]
        assert [one["data"] for one in lines[1:3]] == [[0.5, 0, None], [0.5, 1, None]]


def test_parts_come_as_they_are_made_on_a_connection_that_stays():
    go_on = threading.Event()

    def told(run):
        yield "first"
        assert go_on.wait(20)
        yield "second"

    with fronted(streaming(told)) as front, httpx.Client() as http:
        with http.stream("POST", url(front), content=good(), headers=LINES) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert orjson.loads(next(lines))["data"] == "first"  # the second cannot be made yet
            go_on.set()
            assert [orjson.loads(line)["event"] for line in lines] == ["part", "done"]
        assert http.post(url(front), content=good()).json()["version"] == 3
        assert len(front._fronted.log.records) == 2


def test_who_takes_one_answer_gets_one_and_who_takes_none_is_told():
    with fronted(streaming(Told())) as front, fronted() as plain:
        assert "predictions" in httpx.post(url(front), content=good()).json()
        both = {"accept": "application/json, text/event-stream;q=0.5"}
        assert "predictions" in httpx.post(url(front), content=good(), headers=both).json()
        refused = httpx.post(url(plain), content=good(), headers=EVENTS)
        assert (refused.status_code, refused.headers["content-type"]) == (406, "application/problem+json")
        either = {"accept": "text/event-stream, application/json;q=0.1"}
        assert "predictions" in httpx.post(url(plain), content=good(), headers=either).json()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"instances":[]}', 422),
        (orjson.dumps({"instances": [{"shop": "n", "amount": 1}] * 2}), 422),
    ],
)
def test_what_is_wrong_before_the_first_event_is_a_problem_of_its_own(body, status):
    log = MemoryLog()
    with fronted(streaming(Told()), log=log) as front:
        answer = httpx.post(url(front), content=body, headers=EVENTS)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert log.records == []


def test_a_generator_that_fails_ends_the_stream_with_a_problem_and_is_logged():
    log = MemoryLog()
    with fronted(streaming(Told(fails_at=1)), log=log) as front:
        answer = httpx.post(url(front), content=good(), headers=EVENTS)
        names, data = zip(*events(answer.text), strict=True)
        assert names == ("prediction", "part", "error")
        assert (data[2]["status"], data[2]["type"]) == (500, "about:blank")
        assert "own affair" not in answer.text
        assert orjson.loads(log.records[0].output) == {"parts": [{"i": 0}], "ended": "failed"}


def test_without_a_durable_record_there_is_no_done():
    log = MemoryLog()
    log.error = UnavailableError("the disk is full", "make room")
    with fronted(streaming(Told()), log=log) as front:
        names, data = zip(*events(httpx.post(url(front), content=good(), headers=EVENTS).text), strict=True)
        assert names == ("prediction", "part", "part", "part", "error")
        assert data[-1]["status"] == 503


def test_a_caller_that_goes_away_stops_the_generator():
    told, log = Told(100_000, pause_s=0.01), MemoryLog()
    with fronted(streaming(told), log=log) as front:
        with socket.create_connection(("127.0.0.1", front.port), timeout=20) as peer:
            peer.sendall(question(good(), headers="accept: text/event-stream\r\n"))
            seen = b""
            while b"event: part" not in seen:
                seen += peer.recv(1 << 16)
        assert told.closed.wait(20)
        until(lambda: log.records)
        output = orjson.loads(log.records[0].output)
        assert output["ended"] == "left"
        assert 0 < len(output["parts"]) <= told.made


def test_a_slow_reader_stops_his_own_generator_and_nobody_else():
    told, log = Told(4000, part="x" * 1000), MemoryLog()
    with fronted(streaming(told), log=log, stalled_s=2.0) as front:
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect(("127.0.0.1", front.port))
            peer.sendall(question(good(), headers="accept: text/event-stream\r\n"))
            begin = time.monotonic()
            while not told.closed.is_set():
                # Others are answered meanwhile.
                assert httpx.post(url(front), content=good()).status_code == 200
                assert time.monotonic() - begin < 30
        # Buffers of both sockets and of the front hold some of it; he is dropped as he takes nothing more.
        assert told.made < 4000
        until(lambda: any(r.output for r in log.records))
        ended = next(orjson.loads(r.output) for r in log.records if r.output)["ended"]
        assert ended == "left"


def test_a_reader_that_is_slow_but_reads_gets_everything():
    told = Told(2000, part="x" * 1000)
    with fronted(streaming(told)) as front, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", front.port))
        headers = "accept: application/jsonl\r\nconnection: close\r\n"
        peer.sendall(question(good(), headers=headers))
        time.sleep(0.3)
        seen = b""
        while part := peer.recv(1 << 16):
            seen += part
        assert seen.count(b'{"event":"part"') == 2000
        assert b'"parts":2000}}' in seen
        assert seen.endswith(b"0\r\n\r\n")


def test_time_and_size_have_limits():
    stuck = threading.Event()

    def never(run):
        yield 1
        stuck.wait(20)
        yield 2

    log = MemoryLog()
    with fronted(streaming(never, seconds=0.3), log=log) as front:
        names, data = zip(*events(httpx.post(url(front), content=good(), headers=EVENTS).text), strict=True)
        assert (names, data[-1]["status"]) == (("prediction", "part", "error"), 504)
        assert orjson.loads(log.records[0].output) == {"parts": [1], "ended": "limit"}
        stuck.set()
    with fronted(streaming(Told(10, part="x" * 1_000_000))) as front:
        names, data = zip(*events(httpx.post(url(front), content=good(), headers=EVENTS).text), strict=True)
        assert (names.count("part"), names[-1], data[-1]["status"]) == (4, "error", 413)


def test_more_streams_than_a_replica_answers_are_told_to_come_again():
    held = threading.Event()

    def told(run):
        yield 1
        assert held.wait(20)

    with fronted(streaming(told, at_once=1)) as front, httpx.Client() as http:
        with http.stream("POST", url(front), content=good(), headers=LINES) as first:
            lines = first.iter_lines()
            next(lines)
            busy = httpx.post(url(front), content=good(), headers=LINES)
            assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
            assert httpx.post(url(front), content=good()).status_code == 200  # as one, he is answered
            held.set()
            assert [orjson.loads(line)["event"] for line in lines] == ["part", "done"]
        until(lambda: httpx.post(url(front), content=good(), headers=LINES).status_code == 200)


@pytest.mark.parametrize(
    ("value", "stream", "plain"),
    [
        (None, None, True),
        (b"*/*", None, True),
        (b"text/event-stream", b"text/event-stream", False),
        (b"Text/Event-Stream; charset=utf-8", b"text/event-stream", False),
        (b"application/x-ndjson", b"application/jsonl", False),
        (b"application/json, text/event-stream", None, True),
        (b"application/json;q=0.2, text/event-stream", b"text/event-stream", True),
        (b"text/event-stream;q=0, */*", None, True),
        (b"text/event-stream;q=x, application/jsonl;q=0.1", b"application/jsonl", False),
        (b"image/png, text/event-stream;q=nan", None, True),
    ],
)
def test_the_form_that_is_liked_best(value, stream, plain):
    assert accepts(value) == Accepts(stream, plain)


@pytest.fixture
def keyed(tmp_path):
    made = KeyedRequests(IdempotencyKeys(Settings(home=tmp_path)))
    yield made
    made.close()


def test_a_stream_with_a_key_is_replayed(keyed):
    told, log = Told(), MemoryLog()
    key = {"idempotency-key": "k1"}
    with fronted(streaming(told), log=log, keyed=keyed) as front:
        first = httpx.post(url(front), content=good(), headers={**EVENTS, **key})
        again = httpx.post(url(front), content=good(), headers={**EVENTS, **key})
        assert first.text == again.text
        assert again.headers["content-type"] == "text/event-stream"
        assert events(again.text)[-1][0] == "done"
        assert (len(told.runs), len(log.records)) == (1, 1)
        other = httpx.post(url(front), content=good(), headers={**LINES, **key})
        assert other.status_code == 422  # another form is another request


def test_the_key_of_a_broken_stream_can_be_used_again(keyed):
    told = Told(fails_at=1)
    headers = {**EVENTS, "idempotency-key": "k1"}
    with fronted(streaming(told), keyed=keyed) as front:
        first = httpx.post(url(front), content=good(), headers=headers)
        assert events(first.text)[-1][0] == "error"
        assert httpx.post(url(front), content=b"{", headers=headers).status_code == 400
        told.fails_at = None
        second = httpx.post(url(front), content=good(), headers=headers)
        assert events(second.text)[-1][0] == "done"
        assert events(second.text)[0][1]["predictions"] != events(first.text)[0][1]["predictions"]


def test_a_neighbour_passes_a_stream_on(tmp_path):
    told, log = Told(2000, part="x" * 1000), MemoryLog()
    other = replace(served("other"), parts=None)
    with (
        fronted(streaming(told), log=log, neighbours=Neighbours(tmp_path)),
        fronted(other, neighbours=Neighbours(tmp_path)) as front,
    ):
        answer = httpx.post(url(front), content=good(), headers=LINES)
        assert answer.text.count('"event":"part"') == 2000
        assert orjson.loads(answer.text.splitlines()[-1])["event"] == "done"
        told.closed.clear()
        told.count, told.pause_s = 100_000, 0.01
        with socket.create_connection(("127.0.0.1", front.port), timeout=20) as peer:
            peer.sendall(question(good(), headers="accept: text/event-stream\r\n"))
            assert b"200 OK" in peer.recv(1 << 16)
        assert told.closed.wait(20)  # it is told that its reader has gone


def test_a_replica_that_ends_says_so_in_the_stream(monkeypatch):
    monkeypatch.setattr("rayplat.serve.front.listener.STREAMS_END_S", 0.2)
    told, log = Told(100_000, pause_s=0.01), MemoryLog()
    log.close = lambda: None
    front = Front(Fronted(streaming(told), OpenDoor(), log), Where())
    front.start()
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(httpx.Client())
        answer = stack.enter_context(http.stream("POST", url(front), content=good(), headers=LINES))
        lines = answer.iter_lines()
        next(lines)
        front.close()
        rest = [orjson.loads(line) for line in lines]
    assert (rest[-1]["event"], rest[-1]["data"]["status"]) == ("error", 503)
    assert orjson.loads(log.records[0].output)["ended"] == "stopping"
