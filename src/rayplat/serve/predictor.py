"""One model version, ready to answer: features looked up, network evaluated, record made.

Knows how a question becomes probabilities; it does not know HTTP, nor when a record is durable.
"""

import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from rayplat.core.errors import UnavailableError
from rayplat.core.ids import new_prediction_id
from rayplat.serve.assembly import assembled
from rayplat.serve.evaluation import LANES, probabilities
from rayplat.serve.lanes import Lanes
from rayplat.serve.outbox import STAND_INS, PredictionRecord
from rayplat.serve.ready import Ready, assembled_rows
from rayplat.serve.request import Question
from rayplat.serve.stages import stages_of

if TYPE_CHECKING:
    import polars as pl

POSITIVE_FROM = 0.5
"""The probability from which an answer says `positive`."""


class NotLoggedError(UnavailableError):
    """A prediction that was made and is not told, because its record is not durable."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the prediction is not logged: {reason}", "ask again")

    def __reduce__(self) -> "tuple[type[NotLoggedError], tuple[str]]":
        return type(self), (self.reason,)


class Features(Protocol):
    """Feature values of some instances: a frame with a row each, and where each value came from."""

    @property
    def frame(self) -> "pl.DataFrame":
        """The features' full names as columns, one row an instance, in order."""

    @property
    def provenance(self) -> Sequence[Mapping[str, Any]]:
        """For each instance: view name -> {"event_time", "partition", "offset"}, or None."""


_Columns = Mapping[str, Any]
Lookup = Callable[[Sequence[Mapping[str, Any]], datetime], Features | Ready]
"""Instances and the time of the question -> their features."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, when it came in (UTC), and the same moment on the clock of `time.perf_counter`, s.

    Attributes:
        caller, trace_id, key: who asked, in which trace, with which idempotency key, where that is known.
    """

    question: Question
    asked_at: datetime
    begin: float
    caller: str | None = None
    trace_id: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was predicted.

    Attributes:
        records: for the log, in the order of the instances.
        provenance: of the features of each instance; see `Features.provenance`.
    """

    records: list[PredictionRecord]
    provenance: Sequence[Mapping[str, Any]] = ()

    def predictions(self) -> list[dict[str, Any]]:
        """The predictions as the caller gets them, with the event times of their features where known."""
        told: list[dict[str, Any]] = [
            {"id": r.prediction_id, "probability": r.probability, "positive": r.probability >= POSITIVE_FROM}
            for r in self.records
        ]
        for one, sources in zip(told, self.provenance, strict=False):
            one["features_of"] = {view: of and of.get("event_time") for view, of in sources.items()}
        if self.records and (arm := self.records[0].arm) in STAND_INS:
            for one in told:
                one["fallback"] = arm
        return told


class Predictor:
    """Answers questions with one model version; threads that ask at once are answered one after the other.

    Args:
        endpoint: the endpoint's name.
        version: the version of the model in the registry.
        inputs: the network's inputs in order, from the manifest.
        network: a torch module: float32 [rows, inputs], NaN where missing -> one logit a row.
        lookup: gives the features.
        arm: which arm of a rollout it is, as the records say.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        model: str,
        version: int,
        inputs: Sequence[str],
        network: Any,
        lookup: Lookup,
        arm: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.version = version
        self.inputs = tuple(inputs)
        self._network = network
        self._lookup = lookup
        self._arm = arm
        self._stages = stages_of(endpoint)
        self._lanes = Lanes(network, len(self.inputs), model)
        self._lock = threading.Lock()

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """Predict every instance of questions that are all of the same time.

        Raises:
            UserError: the features cannot be had for one of the questions.
            NotFoundError: a view was never materialized.
            BugError: the network did not give a probability for each instance.
        """
        instances = asked[0].question.instances
        if len(asked) > 1:
            instances = [instance for one in asked for instance in one.question.instances]
        with self._lock:
            begin = time.perf_counter()
            found = self._lookup(instances, asked[0].question.at)
            rows, x = (
                assembled_rows(found.rows, self.inputs)
                if isinstance(found, Ready)
                else assembled(found.frame, self.inputs)
            )
            looked = time.perf_counter()
            made = (
                self._lanes.probabilities(x)
                if len(x) <= LANES
                else probabilities(self._network, x, self.model).tolist()
            )
            now = time.perf_counter()
            self._stages.predicted(looked - begin, now - looked)
        sources = found.provenance
        records = zip(instances, rows, sources, made, strict=True)
        if len(asked) == 1:
            return [Answer([self._record(asked[0], now, one) for one in records], sources)]
        answers, at = [], 0
        for one in asked:
            count = len(one.question.instances)
            answers.append(
                Answer(
                    [self._record(one, now, next(records)) for _ in range(count)], sources[at : at + count]
                )
            )
            at += count
        return answers

    def _record(
        self,
        asked: Asked,
        now: float,
        made: tuple[_Columns, _Columns, _Columns, float],
    ) -> PredictionRecord:
        instance, features, sources, probability = made
        return PredictionRecord(
            prediction_id=new_prediction_id(),
            endpoint=self.endpoint,
            model=self.model,
            version=self.version,
            at=asked.question.at,
            asked_at=asked.asked_at,
            request=request_text(instance),
            features=orjson.dumps(features).decode(),  # NaN becomes null
            provenance=orjson.dumps(sources).decode(),
            probability=probability,
            latency_s=now - asked.begin,
            caller=asked.caller,
            arm=self._arm,
            trace_id=asked.trace_id,
            idempotency_key=asked.key,
        )


def request_text(instance: Mapping[str, Any]) -> str:
    """An instance as a record keeps it: a JSON object."""
    return orjson.dumps(instance, default=_text).decode()


def _text(value: Any) -> str:
    """What JSON has no form for: bytes, in base64 as they were sent."""
    if not isinstance(value, bytes):
        raise TypeError(type(value))
    return b64encode(value).decode()
