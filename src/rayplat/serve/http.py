"""The HTTP face of one endpoint: a plain ASGI application.

Knows paths, limits and the form of every answer; it does not know how features or predictions come
about. A prediction is answered only after its record is durable. No answer carries a stack trace.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from rayplat.core.telemetry import counter, histogram
from rayplat.features.server.faults import RefusedError
from rayplat.serve.admission.admission import Admission, OpenDoor
from rayplat.serve.admission.decision import Admitted, Refused
from rayplat.serve.admission.headers import trace_id
from rayplat.serve.fitting import check_fits
from rayplat.serve.front.accept import ANYTHING, Accepts, accepts
from rayplat.serve.front.once import Once, known
from rayplat.serve.front.reply import Reply, cause_of, refused, reply_to
from rayplat.serve.front.stream import Streaming, Streams
from rayplat.serve.keyed import Keyed, KeyedRequests
from rayplat.serve.log.idempotency import KEY_FORM, Claimed, is_key
from rayplat.serve.multiplex.choices import Choice
from rayplat.serve.multiplex.chosen import Chosen
from rayplat.serve.multiplex.pool import Pool
from rayplat.serve.outbox import PredictionRecord
from rayplat.serve.prediction_log import Log
from rayplat.serve.request import MAX_BODY_BYTES, RequestError, RequestForm
from rayplat.serve.served import Answering, Served
from rayplat.serve.sides import Fetched, Side, Sides
from rayplat.serve.spoken import spoken
from rayplat.serve.stream_run import Parts

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_CHOICE = re.compile(r"/models/([A-Za-z0-9_]{1,100})(/predict)")
Read = Callable[[RequestForm], Awaitable[bytes]]
_METHODS = {"": "GET", "/health": "GET", "/metrics": "GET", "/predict": "POST"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who asks, and in which trace: what the log is told beside the prediction."""

    by: Admitted
    trace_id: str | None
    key: str | None

    def named(self, records: Sequence[PredictionRecord]) -> list[PredictionRecord]:
        return [
            replace(r, caller=self.by.caller, trace_id=self.trace_id, idempotency_key=self.key)
            for r in records
        ]


class EndpointApp:
    """Answers GET on the endpoint, its `/health` and `/metrics`, and POST on `/predict`.

    `/metrics` shows the replica that answers; with several replicas each scrape meets one of them.

    Args:
        predictor: answers questions; called on one thread of its own.
        form: what a request must hold.
        log: where predictions are made durable.
        about: what GET on the endpoint tells beside inputs and columns, JSON values.
        admission: decides who is answered; closed with the application.
        keyed: the keys of the platform; closed with the application. None: an Idempotency-Key is only logged.
        closing: called first when the application is closed.
        parts: how it answers in parts; None: it does not.
        pool, choices: the models and versions beside the endpoint's own; the pool is closed with this.
        fetched: see `Fetched`.
    """

    def __init__(
        self,
        predictor: Answering,
        form: RequestForm,
        log: Log,
        about: dict[str, Any],
        admission: Admission | None = None,
        *,
        keyed: KeyedRequests | None = None,
        closing: Callable[[], None] | None = None,
        parts: Parts | None = None,
        pool: Pool[Chosen] | None = None,
        choices: tuple[Choice, ...] = (),
        fetched: Fetched | None = None,
    ) -> None:
        self._admission = admission or OpenDoor()
        self._closing = closing
        self._keyed = keyed
        self._going: set[asyncio.Future[Reply]] = set()
        self._predictor = predictor
        self._log = log
        self._served = Served(predictor, form, about, parts)
        self._sides = Sides(self._served, self._admission.waited, pool, choices, fetched)
        self._requests = counter("serve_requests_total", "requests to /predict", ("endpoint", "status"))
        self._errors = counter("serve_errors_total", "requests that failed, by cause", ("endpoint", "cause"))
        self._rows = counter("serve_predictions_total", "predictions answered", ("endpoint",))
        self._seconds = histogram(
            "serve_request_seconds", "time from the whole body to the answer", ("endpoint",), _SECONDS
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    def close(self) -> None:
        """Finish what was begun, make it durable, and stop."""
        if self._closing is not None:
            self._closing()
        self._sides.close()
        self._log.close()
        self._admission.close()
        if self._keyed is not None:
            self._keyed.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await asyncio.to_thread(self.close)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _http(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        choice, path = _choice(path)
        allowed = _METHODS.get(path)
        method = scope["method"]
        if allowed is None:
            refusal = RefusedError(404, f"there is nothing at {path[:100]!r} of this endpoint")
            await _send(send, reply_to(refusal))
        elif method != allowed and not (method == "HEAD" and allowed == "GET"):
            text = f"{method[:20]} is not answered here; use {allowed}"
            await _send(send, reply_to(RefusedError(405, text, allowed)))
        elif path == "/predict":
            headers = dict(scope["headers"])
            reply = await self._asked(headers, lambda _: _body(scope, receive), choice, in_parts=True)
            await _send(send, reply)
            if reply.stream is not None:
                await spoken(reply.stream, receive, send)
        elif path == "/metrics":
            await _send(send, Reply(await asyncio.to_thread(_metrics), kind=_TEXT))
        else:
            await _send(send, Reply(orjson.dumps(self._described() if path == "" else {"status": "ok"})))

    async def predict(
        self, headers: dict[bytes, bytes], body: Callable[[RequestForm], bytes], choice: str | None = None
    ) -> Reply:
        """Answer a question that has come another way, as one.

        Args:
            headers: by their names in lower case.
            body: makes the body as it is sent over HTTP, for the form of the model that is asked.
            choice: another model or version than the endpoint's own.
        """

        async def read(form: RequestForm) -> bytes:
            made = body(form)
            if len(made) > MAX_BODY_BYTES:
                raise RequestError(413, (f"the request has over {MAX_BODY_BYTES} bytes",))
            return made

        return await self._asked(headers, read, choice, in_parts=False)

    @property
    def choices(self) -> Mapping[str, Choice]:
        """What may be asked for beside the endpoint's own model, by name."""
        return self._sides.choices

    @property
    def served(self) -> Served:
        """What it answers with."""
        return self._served

    async def _asked(
        self, headers: dict[bytes, bytes], read: Read, choice: str | None, *, in_parts: bool
    ) -> Reply:
        endpoint = self._predictor.endpoint
        decided = self._admission.check(headers.get(b"authorization"), endpoint, 0, time.time())
        if isinstance(decided, Refused):
            reply = refused(decided)
        else:
            reply = await self._admitted(headers, read, decided, choice, in_parts=in_parts)
        self._requests.labels(endpoint, str(reply.status)).inc()
        return reply

    async def _admitted(
        self, headers: dict[bytes, bytes], read: Read, by: Admitted, choice: str | None, *, in_parts: bool
    ) -> Reply:
        try:
            asked = _Asked(by, trace_id(headers.get(b"traceparent")), _key(headers))
            async with self._sides.of(choice or _named(headers)) as side:
                body = await read(side.served.form)
                liked = accepts(headers.get(b"accept")) if in_parts else ANYTHING
                if liked.stream is not None and (streams := self._streams(side, liked)) is not None:
                    return await self._streamed(streams, liked.stream, side, body, asked)
                if asked.key is None or self._keyed is None:
                    return await self._predict(body, asked, side)
                # Who asked may go away meanwhile: a key that was claimed is settled all the same.
                going = asyncio.ensure_future(self._once(self._keyed, asked.key, body, asked, side))
                self._going.add(going)
                going.add_done_callback(self._going.discard)
                return await asyncio.shield(going)
        # The last door: whatever it is, the caller gets a problem document and the log gets the trace.
        except Exception as error:
            return self._failed(error)

    def _streams(self, side: Side, liked: Accepts) -> Streams | None:
        """What answers in parts; None where the caller gets the answer as one.

        Raises:
            RefusedError: 406, he takes no other.
        """
        found = side.streaming(self._log)
        if found is None and not liked.plain:
            name = self._predictor.endpoint
            raise RefusedError(406, f"{name!r} does not answer in parts: take application/json")
        return found

    async def _streamed(self, streams: Streams, kind: bytes, side: Side, body: bytes, asked: _Asked) -> Reply:
        """Answer in parts; the reply comes with the first of them."""
        replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def told(reply: Reply) -> None:
            if not replied.done():
                replied.set_result(reply)
            elif reply.stream is not None:
                reply.stream.gone()

        one = Streaming(
            body,
            kind,
            side.served.form,
            time.perf_counter(),
            self._charge(asked),
            asked.by.caller,
            asked.trace_id,
            asked.key,
        )
        if asked.key is None or self._keyed is None:
            streams.ask(one, told)
        else:
            keyed = self._keyed_as(asked, asked.key, side, kind, body)
            once = Once(self._keyed, lambda _: None)
            once.stream(keyed, lambda done, keep: streams.ask(replace(one, keep=keep), done), told, kind)
        return await replied

    def _keyed_as(self, asked: _Asked, key: str, side: Side, form: bytes, body: bytes) -> Keyed:
        told = b"".join((side.choice.encode(), form, b"\n", body))
        return Keyed(asked.by.caller, self._predictor.endpoint, key, told)

    async def _once(self, keys: KeyedRequests, key: str, body: bytes, asked: _Asked, side: Side) -> Reply:
        """Answer a request under its key, or tell what was answered before."""
        one = self._keyed_as(asked, key, side, b"predict", body)
        found = await asyncio.wrap_future(keys.claim(one))
        if not isinstance(found, Claimed):
            return known(found)
        reply = await self._predict(body, asked, side)
        if reply.status == 200:
            return Reply(await asyncio.wrap_future(keys.settle(found, reply.body)))
        await asyncio.wrap_future(keys.give_up(found))
        return reply

    def _failed(self, error: Exception) -> Reply:
        self._errors.labels(self._predictor.endpoint, cause_of(error)).inc()
        return reply_to(error)

    def _charge(self, asked: _Asked) -> Callable[[int], None]:
        """Counts the instances of a request against who was let in."""

        def charge(rows: int) -> None:
            check_fits(asked.by.limits, rows)
            self._admission.charge(asked.by, self._predictor.endpoint, rows, time.time())

        return charge

    async def _predict(self, body: bytes, asked: _Asked, side: Side) -> Reply:
        begin, endpoint = time.perf_counter(), self._predictor.endpoint
        try:
            answer = await asyncio.wrap_future(side.batcher.submit(body, self._charge(asked)))
            await asyncio.wrap_future(self._log.submit(asked.named(answer.records)))
            reply = side.exchange.reply(answer)
        # Whatever it is, a key that was claimed for it must be given up.
        except Exception as error:
            return self._failed(error)
        self._seconds.labels(endpoint).observe(time.perf_counter() - begin)
        self._rows.labels(endpoint).inc(len(answer.records))
        return reply

    def _described(self) -> dict[str, Any]:
        return self._served.described()


def _choice(path: str) -> tuple[str | None, str]:
    """The model or version that a path names, and the path without it."""
    found = _CHOICE.fullmatch(path)
    return (None, path) if found is None else (found[1], found[2])


def _named(headers: dict[bytes, bytes]) -> str | None:
    """The model or version that a header names: ours, or the one by which Ray Serve's routers go."""
    value = headers.get(b"rayplat-model") or headers.get(b"serve_multiplexed_model_id")
    return None if value is None else value.decode("latin-1")


def _key(headers: dict[bytes, bytes]) -> str | None:
    """The key of a request.

    Raises:
        RequestError: it is empty, too long, or not of ASCII characters.
    """
    value = headers.get(b"idempotency-key")
    if value is None:
        return None
    if not is_key(value):
        raise RequestError(400, (KEY_FORM,))
    return value.decode("ascii")


async def _body(scope: MutableMapping[str, Any], receive: Receive) -> bytes:
    """The whole body.

    Raises:
        RequestError: it is over the limit; the rest is not read.
    """
    told = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
    parts, size = [], int(told) if told.isdigit() else 0
    if size <= MAX_BODY_BYTES:
        size, more = 0, True
        while more and size <= MAX_BODY_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError(400, ("the body ended early",))
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
    if size > MAX_BODY_BYTES:
        raise RequestError(413, (f"the body has over {MAX_BODY_BYTES} bytes; send fewer instances at once",))
    return b"".join(parts)


def _metrics() -> bytes:
    from prometheus_client import generate_latest

    return generate_latest()


async def _send(send: Send, reply: Reply) -> None:
    lines = [line.partition(b": ") for line in reply.more.split(b"\r\n") if line]
    length = [] if reply.stream is not None else [(b"content-length", b"%d" % len(reply.body))]
    headers = [
        (b"content-type", reply.kind),
        *length,
        *((name, value) for name, _, value in lines),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.stream is None:
        await send({"type": "http.response.body", "body": reply.body})
