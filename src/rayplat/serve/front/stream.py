"""Answers in parts: a prediction, then what the endpoint's generator yields, then the promise of a record.

Knows the order of events, limits, and what becomes of a stream that breaks; it does not know sockets, nor the
form of events. Each stream has a thread of its own, so that neither a slow generator nor a slow reader holds
up the loop or anybody else.

The first event names the prediction's id. `done` is told only when the record, with every part in its
`output`, is durable: the prediction is acknowledged by it. A stream that ends in another way (`ended` of the
output: `left`, `failed`, `limit`, `stopping`) is logged too, with the parts made until then, but that is
promised to nobody.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterable, Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from rayplat.core.errors import BugError
from rayplat.core.telemetry import counter, get_logger
from rayplat.features.server.faults import PROBLEM, RefusedError, problem
from rayplat.serve.charge import Charge, Form, free, read
from rayplat.serve.front.body import GoneError, Pipe
from rayplat.serve.front.events import DONE, ERROR, PART, PREDICTION, WRITE, json_of
from rayplat.serve.front.once import Keep
from rayplat.serve.front.reply import Reply, reply_to
from rayplat.serve.outbox import DEFAULT, PredictionRecord
from rayplat.serve.prediction_log import Log
from rayplat.serve.predictor import Answer, Asked, NotLoggedError
from rayplat.serve.request import RequestError
from rayplat.serve.served import Served
from rayplat.serve.stream_run import Parts, StreamRun

MOST_PART = 1 << 20
"""The longest part, bytes of JSON."""
WHOLE, LEFT, FAILED, LIMIT, STOPPING = "whole", "left", "failed", "limit", "stopping"
_HEADERS = b"cache-control: no-store\r\nx-accel-buffering: no\r\n"
_BUSY = Reply(
    problem(503, "as many streams are answered as the replica can: ask later"),
    503,
    PROBLEM,
    b"retry-after: 1\r\n",
)
Told = Callable[[Reply], None]


@dataclass(frozen=True, slots=True)
class Streaming:
    """A request that was let in.

    Attributes:
        kind: the content type of the answer, one of `events.WRITE`.
        form: reads the body.
        keep: where the request has a key.
    """

    body: bytes
    kind: bytes
    form: Form
    begin: float
    charge: Charge = free
    caller: str | None = None
    trace_id: str | None = None
    key: str | None = None
    keep: Keep | None = None


class Streams:
    """The streams of one event loop; used on it only.

    Args:
        served: with `parts`.
        log: where records are made durable.
    """

    def __init__(self, served: Served, log: Log) -> None:
        if served.parts is None:
            raise BugError("an endpoint without a generator has no streams")
        self.parts: Parts = served.parts
        self.served = served
        self.log = log
        self.loop = asyncio.get_running_loop()
        self._going: set[_Stream] = set()
        name = served.predictor.endpoint
        self._ended = counter("serve_streams_total", "streams by how they ended", ("endpoint", "ended"))
        self._name = name

    def ask(self, one: Streaming, told: Told) -> None:
        """Answer in parts; `told` hears on the loop a reply with a body that is made, or a problem."""
        if len(self._going) >= self.parts.at_once:
            told(_BUSY)
            return
        stream = _Stream(self, one, told)
        self._going.add(stream)
        threading.Thread(target=stream.work, name="stream", daemon=True).start()

    def stop(self) -> None:
        """End every stream, telling its reader that the replica stops."""
        for stream in list(self._going):
            stream.finish(STOPPING, RefusedError(503, "the replica is stopping: ask again"))

    def worked(self, stream: "_Stream") -> None:
        """The thread of a stream has ended."""
        self._going.discard(stream)

    def counted(self, ended: str) -> None:
        """A stream has ended."""
        self._ended.labels(self._name, ended).inc()


class _Stream:
    """One stream. `work` runs on its thread; all else on the loop."""

    def __init__(self, streams: Streams, asked: Streaming, told: Told) -> None:
        self._streams = streams
        self._asked = asked
        self._told = told
        self._loop = streams.loop
        self._write = WRITE[asked.kind]
        self._pipe = Pipe(self._loop, lambda: self.finish(LEFT, None))
        self._record: PredictionRecord | None = None
        self._made: list[bytes] = []
        self._bytes = 0
        self._outcome: str | None = None
        self._timer: asyncio.TimerHandle | None = None

    def work(self) -> None:
        """Predict, and generate."""
        ended: str | None = WHOLE
        failure: Exception | None = None
        try:
            answer = self._predicted()
            self._begin(answer)
            self._generate(answer)
        except GoneError:
            ended = None  # somebody on the loop has ended it
        except _OverError as limit:
            ended, failure = LIMIT, RefusedError(413, str(limit))
        # Whatever a generator does, who asked is told that it has failed.
        except Exception as error:
            ended, failure = FAILED, error
        self._on_loop(lambda: self._worked(ended, failure))

    def finish(self, ended: str, failure: Exception | None) -> None:
        """End the stream, once: its record first, and then the last event."""
        if self._outcome is not None:
            return
        self._outcome = ended
        self._pipe.stop()
        if self._timer is not None:
            self._timer.cancel()
        self._streams.counted(ended)
        if self._record is None:  # nothing was told yet, so that a problem can be told as such
            told = failure or RefusedError(503, "the stream has ended before it began: ask again")
            self._given_up(lambda: self._told(reply_to(told)))
            return
        output = b'{"parts":[%b],"ended":"%b"}' % (b",".join(self._made), ended.encode())
        now = time.perf_counter()
        record = replace(self._record, output=output.decode(), latency_s=now - self._asked.begin)
        try:
            durable = self._streams.log.submit([record])
        # Without a durable record there is no `done`, whatever the log says.
        except Exception as error:
            self._logged(failure, error)
            return
        durable.add_done_callback(lambda done: self._on_loop(lambda: self._logged(failure, _error_of(done))))

    def _predicted(self) -> Answer:
        asked = self._asked
        question = read(asked.form, asked.body, datetime.now(UTC), asked.charge)
        if len(question.instances) != 1:
            raise RequestError(422, ("instances: a stream answers exactly one",))
        one = Asked(question, datetime.now(UTC), asked.begin, asked.caller, asked.trace_id, asked.key)
        return self._streams.served.predictor.answer([one])[0]

    def _begin(self, answer: Answer) -> None:
        record = answer.records[0]
        told = {
            "endpoint": record.endpoint,
            "model": record.model,
            "version": record.version,
            "predictions": answer.predictions(),
        }
        first = self._write(PREDICTION, orjson.dumps(told))
        self._pipe.put(first)
        self._sent = [first]
        reply = Reply(b"", 200, self._asked.kind, _HEADERS, self._pipe)
        self._on_loop(lambda: self._begun(record, reply))

    def _begun(self, record: PredictionRecord, reply: Reply) -> None:
        if self._outcome is not None:
            return
        self._record = record
        seconds = self._streams.parts.seconds
        late = RefusedError(504, f"the stream has taken over {seconds:g} s")
        self._timer = self._loop.call_later(seconds, self.finish, LIMIT, late)
        self._told(reply)

    def _generate(self, answer: Answer) -> None:
        record, parts = answer.records[0], self._streams.parts
        if record.arm == DEFAULT:
            return  # a declared answer has no more to say than its prediction
        run = StreamRun(
            instance=orjson.loads(record.request),
            at=record.at,
            features=orjson.loads(record.features),
            probability=record.probability,
            version=record.version,
            network=parts.networks.get(record.version),
            stopped=lambda: self._pipe.closed,
        )
        import torch

        made = iterated(parts.generate(run))
        # What a generator computes with its network is not trained on.
        with torch.no_grad(), contextlib.closing(made):
            for part in made:
                self._part(json_of(part))

    def _part(self, data: bytes) -> None:
        self._bytes += len(data)
        most = self._streams.parts.most_bytes
        if len(data) > MOST_PART or self._bytes > most:
            raise _OverError(f"a part has at most {MOST_PART} bytes, a stream {most}; this is more")
        written = self._write(PART, data)
        # Noted first: what was sent is in the record.
        self._made.append(data)
        if self._asked.keep is not None:
            self._sent.append(written)
        self._pipe.put(written)

    def _worked(self, ended: str | None, failure: Exception | None) -> None:
        self._streams.worked(self)
        if ended is not None:
            self.finish(ended, failure)

    def _logged(self, failure: Exception | None, not_logged: BaseException | None) -> None:
        if not_logged is not None:
            get_logger("serve.front").error("a stream is not logged", error=str(not_logged))
            failure = failure or NotLoggedError(str(not_logged))
        if failure is not None or self._outcome != WHOLE or self._record is None:
            told = b"" if failure is None else self._write(ERROR, reply_to(failure).body)
            self._given_up(lambda: self._pipe.finish(told))
            return
        done = {"ids": [self._record.prediction_id], "parts": len(self._made)}
        last = self._write(DONE, orjson.dumps(done))
        if self._asked.keep is None:
            self._pipe.finish(last)
            return
        whole = b"".join((*self._sent, last))
        self._asked.keep(whole, lambda kept: self._pipe.finish(self._last(kept, whole, last)))

    def _last(self, kept: bytes | Exception, whole: bytes, last: bytes) -> bytes:
        if isinstance(kept, Exception):
            return self._write(ERROR, reply_to(kept).body)
        if kept != whole:  # the claim had lapsed, and another replica was faster
            return self._write(ERROR, problem(409, "another answer was given under this key: ask again"))
        return last

    def _given_up(self, then: Callable[[], None]) -> None:
        if self._asked.keep is None:
            then()
        else:
            self._asked.keep(None, lambda _: then())

    def _on_loop(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and its connections with it
            self._loop.call_soon_threadsafe(work)


class _OverError(Exception):
    """A part or a stream is too long."""


def iterated(parts: Iterable[Any] | AsyncIterable[Any]) -> "Generator[Any, None, None]":
    """The parts one by one; of an asynchronous generator too, on a loop of the calling thread."""
    if isinstance(parts, AsyncIterable):
        return _awaited(parts)
    return _plainly(parts)


def _plainly(parts: Iterable[Any]) -> "Generator[Any, None, None]":
    iterator = iter(parts)
    try:
        yield from iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _awaited(parts: AsyncIterable[Any]) -> "Generator[Any, None, None]":
    with asyncio.Runner() as runner:
        iterator = parts.__aiter__()

        async def following() -> Any:
            return await anext(iterator)

        try:
            while True:
                try:
                    part = runner.run(following())
                except StopAsyncIteration:
                    return
                yield part
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                runner.run(close())


def _error_of(done: "Future[None]") -> BaseException | None:
    return done.exception()
