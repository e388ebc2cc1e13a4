"""What a generator of an endpoint is given for one request that is answered in parts.

Knows the facts of the request and of the version that answers it; it does not know how parts reach
the caller, nor when they are durable.
"""

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

MOST_BYTES = 4 << 20
MOST_BYTES_TO_KAFKA = 400_000
"""A record is less than 1 MB for a broker, and JSON within JSON may be twice as long."""


@dataclass(frozen=True, slots=True)
class StreamRun:
    """One request; `Project.endpoint(stream=...)` names a function that yields its parts, JSON values.

    Attributes:
        instance: the row of the asking table, as it was sent.
        at: the time that the features are of (UTC).
        features: full name -> value, None where missing.
        probability: what the version predicts.
        version: of the model.
        network: of this version: float32 tensor [rows, inputs] -> one logit a row.
        stopped: whether nobody wants further parts; a generator that computes for long may ask.
    """

    instance: Mapping[str, Any]
    at: datetime
    features: Mapping[str, Any]
    probability: float
    version: int
    network: Any
    stopped: Callable[[], bool]


Generate = Callable[[StreamRun], Iterable[Any] | AsyncIterable[Any]]


@dataclass(frozen=True, slots=True)
class Parts:
    """How an endpoint answers in parts.

    Attributes:
        generate: yields the parts of a request.
        networks: of each version that may answer, by its number.
        at_once: so many streams of a replica are answered at a time.
        seconds: so long one may take.
        most_bytes: so long all parts of one may be, as JSON: what the log takes of a prediction.
    """

    generate: Generate
    networks: Mapping[int, Any] = field(default_factory=dict)
    at_once: int = 16
    seconds: float = 300.0
    most_bytes: int = MOST_BYTES
