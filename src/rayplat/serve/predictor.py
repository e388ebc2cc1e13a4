"""One model version, ready to answer: features looked up, network evaluated, record made.

Knows how a question becomes probabilities; it does not know HTTP, nor when a record is durable.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rayplat.core.errors import UnavailableError
from rayplat.core.ids import new_prediction_id
from rayplat.serve.assembly import assembled
from rayplat.serve.evaluation import LANES, probabilities
from rayplat.serve.lanes import Lanes
from rayplat.serve.outbox import STAND_INS, PredictionRecord
from rayplat.serve.predicted import Part, Predicted
from rayplat.serve.ready import Ready, assembled_rows
from rayplat.serve.request import Question
from rayplat.serve.stages import stages_of

if TYPE_CHECKING:
    import polars as pl

POSITIVE_FROM = 0.5
"""The probability from which an answer says `positive`."""


_MADE = {"prediction_id", "request", "features", "provenance", "probability"}


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

    records: Sequence[PredictionRecord]
    provenance: Sequence[Mapping[str, Any]] = ()

    @property
    def version(self) -> int:
        """Which version has answered."""
        records = self.records
        found: int = records.whole.shared["version"] if isinstance(records, Part) else records[0].version
        return found

    def predictions(self) -> list[dict[str, Any]]:
        """The predictions as the caller gets them, with the event times of their features where known."""
        records = self.records
        made: Iterable[tuple[str, float]]
        if isinstance(records, Part):
            whole, begin, end = records.whole, records.begin, records.end
            arm = whole.shared["arm"]
            made = zip(whole.ids[begin:end], whole.probabilities[begin:end], strict=True)
        else:
            arm = records[0].arm if records else None
            made = [(r.prediction_id, r.probability) for r in records]
        told: list[dict[str, Any]] = [
            {"id": name, "probability": p, "positive": p >= POSITIVE_FROM} for name, p in made
        ]
        for one, sources in zip(told, self.provenance, strict=False):
            one["features_of"] = {view: of and of.get("event_time") for view, of in sources.items()}
        if arm in STAND_INS:
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
        reads: what `lookup` reads, where that is known: predictors with the same give the same features for
            the same question.
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
        reads: Hashable = None,
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.version = version
        self.inputs = tuple(inputs)
        self._network = network
        self._lookup = lookup
        self._arm = arm
        self._named = {"endpoint": endpoint, "model": model, "version": version, "arm": arm}
        self._lookup_reads = reads
        self._reads = None if reads is None else (reads, self.inputs)
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
                assembled_rows(found.rows, self.inputs, found.names)
                if isinstance(found, Ready)
                else assembled(found.frame, self.inputs)
            )
            looked = time.perf_counter()
            made = self._evaluated(x)
            now = time.perf_counter()
            self._stages.predicted(looked - begin, now - looked)
        sources = found.provenance
        whole = Predicted(
            {**self._named, "at": asked[0].question.at},
            [new_prediction_id() for _ in made],
            instances,
            rows,
            sources,
            made,
            _own(asked, now),
            x,
            self._reads,
        )
        if len(asked) == 1:
            return [Answer(Part(whole, 0, len(made)), sources)]
        answers, at = [], 0
        for one in asked:
            end = at + len(one.question.instances)
            answers.append(Answer(Part(whole, at, end), sources[at:end]))
            at = end
        return answers

    def beside(self, answered: Sequence[Part]) -> Predicted | None:
        """What this version says where another has answered, from the features that were read then.

        Returns:
            a prediction for each that was answered, with its `beside`; None: what the other has read is not
            what this one reads.

        Raises:
            BugError: as `answer`.
        """
        if self._reads is None or any(part.whole.reads != self._reads for part in answered):
            return None
        x = np.concatenate([part.whole.x[part.begin : part.end] for part in answered])
        with self._lock:
            made = self._evaluated(x)
        told = [(part.whole.columns(part.begin, part.end), len(part)) for part in answered]
        each: dict[str, list[Any]] = {name: [] for one, _ in told for name in one["each"]}
        at = list[datetime]()
        for one, count in told:
            at += (one["all"]["at"],) * count
            for name, column in each.items():
                column.extend(one["each"].get(name) or (None,) * count)
        own = {name: each[name] for name in each.keys() - _MADE}
        return Predicted(
            self._named,
            [new_prediction_id() for _ in made],
            each["request"],
            each["features"],
            each["provenance"],
            made,
            {**own, "at": at, "beside": each["prediction_id"]},
        )

    def under(self, arm: str) -> "Predictor":
        """The same version for another arm, with a network of its own: neither waits for the other."""
        import torch

        network = self._network
        return Predictor(
            endpoint=self.endpoint,
            model=self.model,
            version=self.version,
            inputs=self.inputs,
            network=deepcopy(network) if isinstance(network, torch.nn.Module) else network,
            lookup=self._lookup,
            arm=arm,
            reads=self._lookup_reads,
        )

    def _evaluated(self, x: Any) -> list[float]:
        if len(x) <= LANES:
            return self._lanes.probabilities(x)
        found: list[float] = probabilities(self._network, x, self.model).tolist()
        return found


def _own(asked: Sequence[Asked], now: float) -> dict[str, Sequence[Any]]:
    """What each instance's record has from who asked; see `Predicted.own`."""
    rows = asked
    if len(asked) > 1 or len(asked[0].question.instances) > 1:
        rows = [one for one in asked for _ in one.question.instances]
    found: dict[str, Sequence[Any]] = {
        "asked_at": [one.asked_at for one in rows],
        "latency_s": [now - one.begin for one in rows],
        "caller": [one.caller for one in rows],
    }
    traces, keys = [one.trace_id for one in rows], [one.key for one in rows]
    if any(traces):
        found["trace_id"] = traces
    if any(keys):
        found["idempotency_key"] = keys
    return found
