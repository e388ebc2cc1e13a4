"""The door of an endpoint: paths, who is let in, and the form of every answer.

Knows the paths of one endpoint and the order admission, reading, answering; it does not know sockets, nor how
features or predictions come about.

| path | answers |
|---|---|
| `POST /v1/endpoints/<name>/predict`, `POST /endpoints/<name>/predict` | predictions, at once or in parts |
| `POST /v1/endpoints/<name>/models/<choice>/predict` | predictions of another model or version of it |
| `GET /v1/endpoints/<name>/models` | those that there are |
| `GET /v1/endpoints/<name>`, `GET /endpoints/<name>` | what is asked for, model and version |
| `GET /v1/endpoints/<name>/openapi.json` | the OpenAPI document |
| `GET /v1/endpoints/<name>/metrics`, `/endpoints/<name>/metrics` | Prometheus metrics of this process |
| `GET /endpoints/<name>/health`, `GET /v2/health/live`, `/v2/health/ready`, `/v2` | the server's state |
| `GET /v2/models/<name>`, `/v2/models/<name>/ready`, `POST /v2/models/<name>/infer` | OIP v2 |
| `POST /v2/models/<name>/versions/<choice>/infer` | OIP v2, of another model or version |
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from rayplat.core.telemetry import counter, histogram
from rayplat.features.server.faults import RefusedError
from rayplat.serve.admission.admission import Admission
from rayplat.serve.admission.decision import Admitted, Refused
from rayplat.serve.charge import Charge
from rayplat.serve.fitting import check_fits
from rayplat.serve.front import inference
from rayplat.serve.front.arrow import ArrowExchange
from rayplat.serve.front.connection import Answer as Answering
from rayplat.serve.front.head import Head
from rayplat.serve.front.once import Once
from rayplat.serve.front.openapi import document
from rayplat.serve.front.plain import Exchange, PlainExchange
from rayplat.serve.front.reply import Reply, cause_of, refused, reply_to
from rayplat.serve.front.rooms import Rooms, no_room
from rayplat.serve.front.stream import Streaming, Streams
from rayplat.serve.front.turn import Turn, Waiting
from rayplat.serve.keyed import Keyed, KeyedRequests
from rayplat.serve.predictor import Answer
from rayplat.serve.served import Served

Told = Callable[[Reply], None]
METRICS = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)


class Door:
    """Answers the requests of one listener, on its loop.

    Args:
        admission: says who is let in.
        turn: answers questions.
        alone: whether no other request can come in this turn of the loop.
        elsewhere: answers paths of other endpoints; None: there are none.
        keyed: the keys of the platform; None: an Idempotency-Key is only logged.
        streams: answers in parts; None: the endpoint does not.
        rooms: of the models and versions beside the endpoint's own; None: there are none.
        choice: of which of those this is the door; empty: it is the endpoint's own.
    """

    def __init__(
        self,
        served: Served,
        admission: Admission,
        turn: Turn,
        alone: Callable[[], bool],
        elsewhere: Answering | None = None,
        *,
        keyed: KeyedRequests | None = None,
        streams: Streams | None = None,
        rooms: Rooms | None = None,
        choice: str = "",
    ) -> None:
        self._rooms = rooms
        self._choice = choice.encode()
        self._served = served
        self._streams = streams
        self._admission = admission
        self._turn = turn
        self._alone = alone
        self._elsewhere = elsewhere
        self._name = name = served.predictor.endpoint
        self._plain = PlainExchange(served)
        self._predicts = {f"/v1/endpoints/{name}/predict", f"/endpoints/{name}/predict"}
        own = f"/v2/models/{name}/versions/{served.predictor.version}/infer"
        self._infers = {f"/v2/models/{name}/infer", own}
        self._metrics = {f"/v1/endpoints/{name}/metrics", f"/endpoints/{name}/metrics"}
        self._pages = _pages(served, () if rooms is None else tuple(rooms.told()))
        requests = counter("serve_requests_total", "requests to /predict", ("endpoint", "status"))
        errors = counter("serve_errors_total", "requests that failed, by cause", ("endpoint", "cause"))
        self._count = _Counts(lambda status: requests.labels(name, str(status)))
        self._errors = _Counts(lambda cause: errors.labels(name, cause))
        self._once = None if keyed is None else Once(keyed, lambda status: self._count[status].inc())
        self._rows = counter("serve_predictions_total", "predictions answered", ("endpoint",)).labels(name)
        self._seconds = histogram(
            "serve_front_seconds", "time from the whole body to the answer", ("endpoint",), _SECONDS
        ).labels(name)

    def answer(self, head: Head, body: bytes, told: Told) -> None:
        """See `connection.Answer`."""
        path = head.path if len(head.path) < 2 else head.path.rstrip("/")
        try:
            if path in self._predicts or path in self._infers:
                self._predict(head, body, told, head.model, infer=path in self._infers)
                return
            if self._rooms is not None and self._entered(self._rooms, path, head, body, told):
                return
            page = self._pages.get(path)
            if page is None and path in self._metrics:
                _scraped(head, told)
                return
            if page is None and self._elsewhere is not None:
                self._elsewhere(head, body, told)
                return
            told(_page(page, head))
        # The last door: whatever it is, the caller gets a problem document and the log gets the trace.
        except Exception as error:
            told(reply_to(error))

    def _entered(self, rooms: Rooms, path: str, head: Head, body: bytes, told: Told) -> bool:
        """Answer what is asked of another model or version; False where nothing is."""
        asked = rooms.asked(path)
        if asked is not None:
            self._predict(head, body, told, asked[0], infer=asked[1])
            return True
        if path == f"/v1/endpoints/{self._name}/models":
            told(_page(orjson.dumps({"models": rooms.told()}), head))
            return True
        return False

    def _predict(self, head: Head, body: bytes, told: Told, choice: str | None, *, infer: bool) -> None:
        if head.method != "POST":
            raise RefusedError(405, f"{head.method[:20]} is not answered here; use POST", "POST")
        decided = self._admission.check(head.authorization, self._name, 0, time.time())
        if isinstance(decided, Refused):
            self._count[decided.status].inc()
            self._errors["admission"].inc()
            told(refused(decided))
            return
        if choice is None:
            self.admitted(head, body, told, decided, infer=infer)
            return
        if self._rooms is None:
            raise no_room(choice, self._name)
        self._rooms.check(choice)
        self._rooms.enter(
            choice,
            lambda room, done: room.admitted(head, body, done, decided, infer=infer),
            told,
            lambda error: self._failed(error, told),
        )

    def close(self) -> None:
        """Of another model or version: no request is on its way here, and none will come."""
        self._turn.close()

    def admitted(self, head: Head, body: bytes, told: Told, by: Admitted, *, infer: bool) -> None:
        """Answer a request that was let in."""
        decided = by
        exchange: Exchange
        if infer:
            exchange = inference.InferExchange(self._served)
        else:
            exchange = ArrowExchange(self._served) if head.arrow else self._plain
        parts = head.accepts.stream is not None and not infer
        if parts and self._streamed(head, body, told, decided, exchange):
            return
        if head.key is None or self._once is None:
            self._work(head, body, told, decided, exchange)
        else:
            asked = b"".join((self._choice, exchange.name, b"\n", body))
            keyed = Keyed(decided.caller, self._name, head.key, asked)
            self._once.ask(
                keyed, lambda done: self._work(head, body, done, decided, exchange), told, exchange.kind
            )

    def _streamed(self, head: Head, body: bytes, told: Told, by: Admitted, exchange: Exchange) -> bool:
        """Answer in parts; False where the caller gets the answer as one, which he takes too."""
        kind = head.accepts.stream
        if self._streams is None or kind is None:
            if head.accepts.plain:
                return False
            raise RefusedError(406, f"{self._name!r} does not answer in parts: take application/json")
        streams = self._streams
        one = Streaming(
            body,
            kind,
            exchange,
            time.perf_counter(),
            self._charge(by),
            by.caller,
            head.trace_id,
            head.key,
        )

        def counted(reply: Reply) -> None:
            self._count[reply.status].inc()
            told(reply)

        if head.key is None or self._once is None:
            streams.ask(one, counted)
        else:
            keyed = Keyed(by.caller, self._name, head.key, b"".join((self._choice, kind, b"\n", body)))
            self._once.stream(
                keyed, lambda done, keep: streams.ask(replace(one, keep=keep), done), counted, kind
            )
        return True

    def _charge(self, by: Admitted) -> Charge:
        """Counts the instances of a request against who was let in."""

        def charge(rows: int) -> None:
            check_fits(by.limits, rows)
            self._admission.charge(by, self._name, rows, time.time())

        return charge

    def _work(self, head: Head, body: bytes, told: Told, by: Admitted, exchange: Exchange) -> None:
        """Answer a question of somebody who was let in."""
        begin = time.perf_counter()

        def settled(answer: Answer | Exception) -> None:
            if isinstance(answer, Exception):
                self._failed(answer, told)
                return
            try:
                reply = exchange.reply(answer)
            # Others of the batch are told after this one.
            except Exception as failure:
                self._failed(failure, told)
                return
            told(reply)
            self._count[200].inc()
            self._rows.inc(len(answer.records))
            self._seconds.observe(time.perf_counter() - begin)

        self._turn.add(
            Waiting(body, begin, settled, by.caller, head.trace_id, head.key, self._charge(by), exchange),
            alone=self._alone(),
        )

    def _failed(self, error: Exception, told: Told) -> None:
        reply = reply_to(error)
        self._count[reply.status].inc()
        self._errors[cause_of(error)].inc()
        told(reply)


class _Counts(dict[Any, Any]):
    """Counters by status or cause, each looked up once."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, of: Any) -> Any:
        self[of] = made = self._make(of)
        return made


def _scraped(head: Head, told: Told) -> None:
    """Tell the metrics of this process; they are written beside the loop."""
    if head.method not in ("GET", "HEAD"):
        raise RefusedError(405, f"{head.method[:20]} is not answered here; use GET", "GET")
    from prometheus_client import generate_latest

    loop = asyncio.get_running_loop()
    made = loop.run_in_executor(None, generate_latest)
    made.add_done_callback(lambda done: told(Reply(done.result(), kind=METRICS)))


def _pages(served: Served, choices: tuple[str, ...]) -> dict[str, bytes]:
    """What GET answers, by path."""
    predictor, form = served.predictor, served.form
    name, version = predictor.endpoint, predictor.version
    about = orjson.dumps(served.described())
    up = orjson.dumps({"status": "ok"})
    ready = orjson.dumps({"name": name, "ready": True})
    model = orjson.dumps(inference.metadata(name, version, form, choices))
    described = document(
        name, predictor.model, version, form, in_parts=served.parts is not None, choices=choices
    )
    return {
        f"/v1/endpoints/{name}": about,
        f"/endpoints/{name}": about,
        f"/endpoints/{name}/health": up,
        f"/v1/endpoints/{name}/openapi.json": orjson.dumps(described),
        "/v2": orjson.dumps(inference.SERVER),
        "/v2/health/live": orjson.dumps({"live": True}),
        "/v2/health/ready": orjson.dumps({"ready": True}),
        f"/v2/models/{name}": model,
        f"/v2/models/{name}/versions/{version}": model,
        f"/v2/models/{name}/ready": ready,
        **{f"/v2/models/{name}/versions/{one}/ready": ready for one in (str(version), *choices)},
    }


def _page(page: bytes | None, head: Head) -> Reply:
    if page is None:
        raise RefusedError(404, f"there is nothing at {head.path[:100]!r}")
    if head.method not in ("GET", "HEAD"):
        raise RefusedError(405, f"{head.method[:20]} is not answered here; use GET", "GET")
    return Reply(page)
