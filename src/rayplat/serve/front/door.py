"""The door of an endpoint: paths, who is let in, and the form of every answer.

Knows the paths of one endpoint and the order admission, reading, answering; it does not know sockets, nor how
features or predictions come about.

| path | answers |
|---|---|
| `POST /v1/endpoints/<name>/predict`, `POST /endpoints/<name>/predict` | predictions |
| `GET /v1/endpoints/<name>`, `GET /endpoints/<name>` | what is asked for, model and version |
| `GET /v1/endpoints/<name>/openapi.json` | the OpenAPI document |
| `GET /endpoints/<name>/health`, `GET /v2/health/live`, `/v2/health/ready`, `/v2` | the server's state |
| `GET /v2/models/<name>`, `/v2/models/<name>/ready`, `POST /v2/models/<name>/infer` | OIP v2 |
"""

import time
from collections.abc import Callable
from typing import Any

import orjson

from rayplat.core.telemetry import counter, histogram
from rayplat.features.server.faults import RefusedError
from rayplat.serve.admission.admission import Admission
from rayplat.serve.admission.decision import Admitted, NotAdmittedError, Refused
from rayplat.serve.charge import Charge
from rayplat.serve.front import inference
from rayplat.serve.front.connection import Answer as Answering
from rayplat.serve.front.head import Head
from rayplat.serve.front.once import Once
from rayplat.serve.front.openapi import document
from rayplat.serve.front.reply import Reply, refused, reply_to
from rayplat.serve.front.turn import Turn, Waiting
from rayplat.serve.keyed import Keyed, KeyedRequests
from rayplat.serve.predictor import Answer
from rayplat.serve.request import RequestError
from rayplat.serve.served import Served

Told = Callable[[Reply], None]
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)


class Door:
    """Answers the requests of one listener, on its loop.

    Args:
        admission: says who is let in.
        turn: answers questions.
        alone: whether no other request can come in this turn of the loop.
        elsewhere: answers paths of other endpoints; None: there are none.
        keyed: the keys of the platform; None: an Idempotency-Key is only logged.
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
    ) -> None:
        self._served = served
        self._admission = admission
        self._turn = turn
        self._alone = alone
        self._elsewhere = elsewhere
        name = served.predictor.endpoint
        predictor = served.predictor
        self._head: dict[str, Any] = {
            "endpoint": name,
            "model": predictor.model,
            "version": predictor.version,
        }
        self._predicts = {f"/v1/endpoints/{name}/predict", f"/endpoints/{name}/predict"}
        self._infers = f"/v2/models/{name}/infer"
        self._pages = _pages(served)
        requests = counter("serve_requests_total", "requests to /predict", ("endpoint", "status"))
        self._count = _Counts(lambda status: requests.labels(name, str(status)))
        self._once = None if keyed is None else Once(keyed, lambda status: self._count[status].inc())
        self._rows = counter("serve_predictions_total", "predictions answered", ("endpoint",)).labels(name)
        self._seconds = histogram(
            "serve_front_seconds", "time from the whole body to the answer", ("endpoint",), _SECONDS
        ).labels(name)

    def answer(self, head: Head, body: bytes, told: Told) -> None:
        """See `connection.Answer`."""
        path = head.path if len(head.path) < 2 else head.path.rstrip("/")
        try:
            if path in self._predicts or path == self._infers:
                self._predict(head, body, told, infer=path == self._infers)
                return
            page = self._pages.get(path)
            if page is None and self._elsewhere is not None:
                self._elsewhere(head, body, told)
                return
            told(_page(page, head))
        # The last door: whatever it is, the caller gets a problem document and the log gets the trace.
        except Exception as error:
            told(reply_to(error))

    def _predict(self, head: Head, body: bytes, told: Told, *, infer: bool) -> None:
        if head.method != "POST":
            raise RefusedError(405, f"{head.method[:20]} is not answered here; use POST", "POST")
        name = self._head["endpoint"]
        decided = self._admission.check(head.authorization, name, 0, time.time())
        if isinstance(decided, Refused):
            self._count[decided.status].inc()
            told(refused(decided))
        elif head.key is None or self._once is None:
            self._work(head, body, told, decided, infer=infer)
        else:
            keyed = Keyed(decided.caller, name, head.key, (b"infer\n" if infer else b"predict\n") + body)
            self._once.ask(keyed, lambda done: self._work(head, body, done, decided, infer=infer), told)

    def _work(self, head: Head, body: bytes, told: Told, by: Admitted, *, infer: bool) -> None:
        """Answer a question of somebody who was let in."""
        begin, given = time.perf_counter(), None

        def charge(rows: int) -> None:
            self._admission.charge(by, self._head["endpoint"], rows, time.time())

        if infer:
            try:
                body, given = inference.body_of(body)
            except RequestError as error:
                self._charged(charge, error, told)
                return

        def settled(answer: Answer | Exception) -> None:
            if isinstance(answer, Exception):
                self._failed(answer, told)
                return
            try:
                reply = Reply(self._inferred(answer, given) if infer else self._predicted(answer))
            # Others of the batch are told after this one.
            except Exception as failure:
                self._failed(failure, told)
                return
            self._count[200].inc()
            self._rows.inc(len(answer.records))
            told(reply)
            self._seconds.observe(time.perf_counter() - begin)

        self._turn.add(
            Waiting(body, begin, settled, by.caller, head.trace_id, head.key, charge), alone=self._alone()
        )

    def _charged(self, charge: Charge, error: Exception, told: Told) -> None:
        """Tell a fault of the body, which counts as an instance."""
        try:
            charge(1)
        except NotAdmittedError as over:
            error = over
        self._failed(error, told)

    def _failed(self, error: Exception, told: Told) -> None:
        reply = reply_to(error)
        self._count[reply.status].inc()
        told(reply)

    def _predicted(self, answer: Answer) -> bytes:
        predictions = answer.predictions()
        for one, record in zip(predictions, answer.records, strict=True):
            sources = orjson.loads(record.provenance)
            one["features_of"] = {view: of and of.get("event_time") for view, of in sources.items()}
        return orjson.dumps({**self._head, "predictions": predictions})

    def _inferred(self, answer: Answer, given: str | None) -> bytes:
        return inference.answered(self._head["endpoint"], self._head["version"], answer, given)


class _Counts(dict[int, Any]):
    """Counters by status, each looked up once."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, status: int) -> Any:
        self[status] = made = self._make(status)
        return made


def _pages(served: Served) -> dict[str, bytes]:
    """What GET answers, by path."""
    predictor, form = served.predictor, served.form
    name, version = predictor.endpoint, predictor.version
    about = orjson.dumps(served.described())
    up = orjson.dumps({"status": "ok"})
    ready = orjson.dumps({"name": name, "ready": True})
    model = orjson.dumps(inference.metadata(name, version, form))
    return {
        f"/v1/endpoints/{name}": about,
        f"/endpoints/{name}": about,
        f"/endpoints/{name}/health": up,
        f"/v1/endpoints/{name}/openapi.json": orjson.dumps(document(name, predictor.model, version, form)),
        "/v2": orjson.dumps(inference.SERVER),
        "/v2/health/live": orjson.dumps({"live": True}),
        "/v2/health/ready": orjson.dumps({"ready": True}),
        f"/v2/models/{name}": model,
        f"/v2/models/{name}/versions/{version}": model,
        f"/v2/models/{name}/ready": ready,
    }


def _page(page: bytes | None, head: Head) -> Reply:
    if page is None:
        raise RefusedError(404, f"there is nothing at {head.path[:100]!r}")
    if head.method not in ("GET", "HEAD"):
        raise RefusedError(405, f"{head.method[:20]} is not answered here; use GET", "GET")
    return Reply(page)
