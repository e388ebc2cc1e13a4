"""One model version, ready to answer: features looked up, network evaluated, record made.

Knows how a question becomes probabilities; it does not know HTTP, nor when a record is durable.
"""

import math
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from rayplat.core.errors import BugError, IntegrityError
from rayplat.core.ids import new_prediction_id
from rayplat.core.project.model import Model
from rayplat.registry.manifest import Manifest
from rayplat.serve.assembly import assembled
from rayplat.serve.outbox import PredictionRecord
from rayplat.serve.request import Question

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

POSITIVE_FROM = 0.5
"""The probability from which an answer says `positive`."""


class Features(Protocol):
    """Feature values of some instances: a frame with a row each, and where each value came from."""

    @property
    def frame(self) -> "pl.DataFrame":
        """The features' full names as columns, one row an instance, in order."""

    @property
    def provenance(self) -> Sequence[Mapping[str, Any]]:
        """For each instance: view name -> {"event_time", "partition", "offset"}, or None."""


_Columns = Mapping[str, Any]
Lookup = Callable[[Sequence[Mapping[str, Any]], datetime], Features]
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
    """What was predicted: the records for the log, in the order of the instances."""

    records: list[PredictionRecord]

    def predictions(self) -> list[dict[str, Any]]:
        """The predictions as the caller gets them."""
        return [
            {"id": r.prediction_id, "probability": r.probability, "positive": r.probability >= POSITIVE_FROM}
            for r in self.records
        ]


class Predictor:
    """Answers questions with one model version; threads that ask at once are answered one after the other.

    Args:
        endpoint: the endpoint's name.
        version: the version of the model in the registry.
        inputs: the network's inputs in order, from the manifest.
        network: a torch module: float32 [rows, inputs], NaN where missing -> one logit a row.
        lookup: gives the features.
    """

    def __init__(
        self, *, endpoint: str, model: str, version: int, inputs: Sequence[str], network: Any, lookup: Lookup
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.version = version
        self.inputs = tuple(inputs)
        self._network = network
        self._lookup = lookup
        self._lock = threading.Lock()

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """Predict every instance of questions that are all of the same time.

        Raises:
            UserError: the features cannot be had for one of the questions.
            NotFoundError: a view was never materialized.
            BugError: the network did not give a probability for each instance.
        """
        instances = [instance for one in asked for instance in one.question.instances]
        with self._lock:
            found = self._lookup(instances, asked[0].question.at)
            rows, x = assembled(found.frame, self.inputs)
            probabilities = self._evaluate(x)
        made = zip(instances, rows, found.provenance, probabilities, strict=True)
        now = time.perf_counter()
        return [Answer([self._record(one, now, next(made)) for _ in one.question.instances]) for one in asked]

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
            request=orjson.dumps(instance, default=_text).decode(),
            features=orjson.dumps(features).decode(),  # NaN becomes null
            provenance=orjson.dumps(sources).decode(),
            probability=probability,
            latency_s=now - asked.begin,
            caller=asked.caller,
            trace_id=asked.trace_id,
            idempotency_key=asked.key,
        )

    def _evaluate(self, x: "np.ndarray[Any, Any]") -> list[float]:
        import torch

        with torch.inference_mode():
            logits = self._network(torch.from_numpy(x)).double().reshape(-1)
            probabilities: list[float] = torch.sigmoid(logits).tolist()
        if len(probabilities) != len(x) or any(math.isnan(p) for p in probabilities):
            raise BugError(
                f"the network of {self.model!r} gave {len(probabilities)} values for {len(x)} rows, or NaN",
                "it must return one finite logit a row, also where inputs are NaN",
            )
        return probabilities


def _text(value: Any) -> str:
    """What JSON has no form for: bytes, in base64 as they were sent."""
    if not isinstance(value, bytes):
        raise TypeError(type(value))
    return b64encode(value).decode()


def build_network(model: Model, tensors: Mapping[str, Any], manifest: Manifest) -> Any:
    """The project's network with the artifact's weights, ready to infer.

    Raises:
        IntegrityError: the weights do not fit the network that the project builds.
    """
    network = model.network(len(manifest.inputs))
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise IntegrityError(
            f"the weights of {model.name!r} do not fit its network: {error}",
            "the project's `network` was changed since: train a new version, or take the change back",
        ) from error
    return network.eval()
