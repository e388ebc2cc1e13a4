"""Answers in parts at Ray Serve's door: the application alone, spoken to in ASGI."""

import asyncio
from dataclasses import replace

import httpx
import orjson
import pytest

from rayplat.core.settings import Settings
from rayplat.serve.http import EndpointApp
from rayplat.serve.keyed import KeyedRequests
from rayplat.serve.log.idempotency import IdempotencyKeys
from rayplat.serve.log.local import LocalLog, find
from rayplat.serve.stream_run import Parts

from .front.served import MemoryLog, good, served
from .front.test_stream import EVENTS, LINES, Told, events


class Door:
    """An application, a log and a generator."""

    def __init__(self, told, keyed=None, log=None):
        of = replace(served(), parts=None if told is None else Parts(told, {3: "the network"}))
        self.log = log or MemoryLog()
        self.app = EndpointApp(of.predictor, of.form, self.log, {}, parts=of.parts, keyed=keyed)

    def ask(self, *asked):
        async def once():
            transport = httpx.ASGITransport(self.app, root_path="/endpoints/buys")
            async with httpx.AsyncClient(transport=transport, base_url="http://x/endpoints/buys") as http:
                return [await http.post("/predict", content=body, headers=headers) for body, headers in asked]

        return asyncio.run(once())


@pytest.fixture
def door():
    made = []

    def make(told, keyed=None, log=None):
        made.append(Door(told, keyed, log))
        return made[-1]

    yield make
    for one in made:
        one.app.close()


def test_the_events_are_those_of_the_front(door):
    at = door(Told())
    (answer,) = at.ask((good(0.5), EVENTS))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    names, data = zip(*events(answer.text), strict=True)
    assert names == ("prediction", "part", "part", "part", "done")
    assert data[4]["ids"] == [data[0]["predictions"][0]["id"]] == [at.log.records[0].prediction_id]
    assert orjson.loads(at.log.records[0].output)["ended"] == "whole"


def test_who_takes_no_other_form_is_told_where_there_are_no_parts(door):
    refused, plain = door(None).ask((good(), EVENTS), (good(), {"accept": "*/*"}))
    assert (refused.status_code, plain.status_code) == (406, 200)
    bad, answer = door(Told()).ask((b"{", EVENTS), (good(), {}))
    assert (bad.status_code, answer.json()["version"]) == (400, 3)


def test_a_key_is_replayed(door, tmp_path):
    told = Told()
    at = door(told, KeyedRequests(IdempotencyKeys(Settings(home=tmp_path))))
    headers = {**LINES, "idempotency-key": "k"}
    first, again, other = at.ask((good(), headers), (good(), headers), (good(9.0), headers))
    assert first.text == again.text
    assert again.headers["content-type"] == "application/jsonl"
    assert (len(told.runs), other.status_code) == (1, 422)


def test_the_longest_stream_fits_into_the_files_of_the_log(door, tmp_path):
    told = Told(8, part='"' * 250_000)  # as JSON twice as long, and twice again within the record
    at = door(told, log=LocalLog(tmp_path))
    (answer,) = at.ask((good(), LINES))
    *_, part, last = answer.text.splitlines()
    assert orjson.loads(part)["data"] == '"' * 250_000
    (identity,) = orjson.loads(last)["data"]["ids"]
    record = find(tmp_path, identity)
    assert len(orjson.loads(record.output)["parts"]) == 8


async def _until_gone(app, parts):
    """Ask for a stream, read so many messages, and go away."""
    begun, seen = asyncio.Event(), []
    asked = iter([{"type": "http.request", "body": good(), "more_body": False}])

    async def receive():
        for message in asked:
            return message
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        seen.append(message)
        if len(seen) > parts:
            begun.set()

    headers = [(b"accept", b"text/event-stream")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
    await asyncio.wait_for(app(scope, receive, send), 30)
    return seen


def test_who_goes_away_stops_the_generator(door):
    told = Told(100_000, pause_s=0.01)
    at = door(told)

    async def once():
        seen = await _until_gone(at.app, 4)
        for _ in range(1000):
            if at.log.records:
                return seen
            await asyncio.sleep(0.02)
        raise TimeoutError

    seen = asyncio.run(once())
    assert told.closed.wait(20)
    assert orjson.loads(at.log.records[0].output)["ended"] == "left"
    assert b"content-length" not in dict(seen[0]["headers"])
    assert all(message["more_body"] for message in seen[1:])


def test_a_slow_reader_holds_its_own_generator_only(door):
    told = Told(3000, part="x" * 1000)
    at = door(told)

    async def once():
        go_on, taken = asyncio.Event(), []
        asked = iter([{"type": "http.request", "body": good(), "more_body": False}])

        async def receive():
            for message in asked:
                return message
            return await asyncio.sleep(3600)

        async def send(message):
            taken.append(message)
            if message["type"] == "http.response.body":
                await go_on.wait()

        headers = [(b"accept", b"application/jsonl")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
        going = asyncio.ensure_future(at.app(scope, receive, send))
        for _ in range(500):
            if len(taken) > 1:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        held = told.made
        go_on.set()
        await asyncio.wait_for(going, 30)
        return held, b"".join(message.get("body", b"") for message in taken)

    held, whole = asyncio.run(once())
    assert held < 1000  # some 256 KiB are made ahead
    assert whole.count(b'"event":"part"') == 3000
    assert orjson.loads(whole.splitlines()[-1])["event"] == "done"
