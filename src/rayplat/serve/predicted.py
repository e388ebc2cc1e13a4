"""What one call of a version has predicted, column by column; a record is made where somebody asks for one.

Knows what the predictions of a call share and what each has of its own, and how both are written for the log;
it does not know how they were made, nor when they are durable. A record costs more than a small model's
prediction, and most are only written to a file.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, overload

import orjson

from rayplat.core.ids import PredictionId
from rayplat.serve.outbox import PredictionRecord


@dataclass(frozen=True, slots=True)
class Predicted:
    """The predictions of one call, a value of each list an instance; see `PredictionRecord` for the fields.

    Attributes:
        shared: `endpoint`, `model`, `version`, `at` and `arm`.
        requests: the instances.
        features: the inputs' values by name.
        provenance: view name -> the source event behind its values, or None.
        own: further fields, `caller` and `asked_at` among them.
        x: float32 [rows, inputs], as the network was given it.
        reads: what the features follow from, so that another version may take them; None: it may not.
    """

    shared: Mapping[str, Any]
    ids: Sequence[PredictionId]
    requests: Sequence[Mapping[str, Any]]
    features: Sequence[Mapping[str, Any]]
    provenance: Sequence[Mapping[str, Any]]
    probabilities: Sequence[float]
    own: Mapping[str, Sequence[Any]]
    x: Any = None
    reads: Any = None

    def record(self, place: int) -> PredictionRecord:
        """The record of an instance."""
        return PredictionRecord(
            **self.shared,
            prediction_id=self.ids[place],
            request=request_text(self.requests[place]),
            features=orjson.dumps(self.features[place]).decode(),  # NaN becomes null
            provenance=orjson.dumps(self.provenance[place]).decode(),
            probability=self.probabilities[place],
            **{name: values[place] for name, values in self.own.items()},
        )

    def columns(self, begin: int, end: int) -> dict[str, Any]:
        """Some rows as a log keeps them: `all` is shared, `each` has a list a field, JSON as it is."""
        each: dict[str, Sequence[Any]] = {
            "prediction_id": self.ids,
            "request": self.requests,
            "features": self.features,
            "provenance": self.provenance,
            "probability": self.probabilities,
            **self.own,
        }
        if begin or end < len(self.ids):
            each = {name: values[begin:end] for name, values in each.items()}
        return {"all": self.shared, "each": each}


class Part(Sequence[PredictionRecord]):
    """Some rows of a call one behind the other: the records of one answer."""

    __slots__ = ("begin", "end", "whole")

    def __init__(self, whole: Predicted, begin: int, end: int) -> None:
        self.whole = whole
        self.begin = begin
        self.end = end

    def __len__(self) -> int:
        return self.end - self.begin

    @overload
    def __getitem__(self, place: int) -> PredictionRecord: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[PredictionRecord]: ...
    def __getitem__(self, place: int | slice) -> "PredictionRecord | Sequence[PredictionRecord]":
        chosen = range(self.begin, self.end)[place]
        if isinstance(chosen, range):
            return [self.whole.record(one) for one in chosen]
        return self.whole.record(chosen)

    def __iter__(self) -> Iterator[PredictionRecord]:
        return map(self.whole.record, range(self.begin, self.end))

    def pieces(self) -> list[Any]:
        """As a payload holds it; see `Predicted.columns`."""
        return [self.whole.columns(self.begin, self.end)]


class Joined(Sequence[PredictionRecord]):
    """The records of several answers, one after the other."""

    def __init__(self, parts: Sequence[Sequence[PredictionRecord]]) -> None:
        self._parts = parts
        self._length = sum(map(len, parts))

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> PredictionRecord: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[PredictionRecord]: ...
    def __getitem__(self, place: int | slice) -> "PredictionRecord | Sequence[PredictionRecord]":
        return list(self)[place]

    def __iter__(self) -> Iterator[PredictionRecord]:
        return chain.from_iterable(self._parts)

    def pieces(self) -> list[Any]:
        """As a payload holds it: rows, and columns of calls."""
        found: list[Any] = []
        for part in self._parts:
            found += part.pieces() if isinstance(part, Part) else part
        return found


def joined(parts: Sequence[Sequence[PredictionRecord]]) -> Sequence[PredictionRecord]:
    """The records of several answers."""
    merged = runs(parts)
    return merged[0] if len(merged) == 1 else Joined(merged)


def runs(parts: Iterable[Sequence[PredictionRecord]]) -> list[Sequence[PredictionRecord]]:
    """The records of several answers; those of one call that lie together are one."""
    merged: list[Sequence[PredictionRecord]] = []
    last: Part | None = None
    for part in parts:
        if not isinstance(part, Part):
            if part:
                merged.append(part)
            last = None
        elif last is not None and last.whole is part.whole and last.end == part.begin:
            last.end = part.end
        else:
            last = Part(part.whole, part.begin, part.end)
            merged.append(last)
    return merged


def rows_of_columns(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of `Predicted.columns` after it was JSON, with the texts that a record has.

    Raises:
        ValueError, TypeError, KeyError: it is something else.
    """
    shared, each = told["all"], told["each"]
    names = list(each)
    for values in zip(*each.values(), strict=True):
        row = {**shared, **dict(zip(names, values, strict=True))}
        for name in ("request", "features", "provenance"):
            row[name] = orjson.dumps(row[name]).decode()
        yield row


def request_text(instance: Mapping[str, Any]) -> str:
    """An instance as a record keeps it: a JSON object."""
    return orjson.dumps(instance, default=as_text).decode()


def as_text(value: Any) -> str:
    """What JSON has no form for: bytes, in base64 as they were sent."""
    if not isinstance(value, bytes):
        raise TypeError(type(value))
    return b64encode(value).decode()
