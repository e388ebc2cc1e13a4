"""Bodies of requests, checked before anything is looked up.

Knows the two forms of a question; it does not know views.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from rayplat.core.errors import UserError
from rayplat.features.instants import utc
from rayplat.features.server.faults import RefusedError

MAX_KEYS = 10_000
"""The most entities of one request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question in Feast's form.

    Attributes:
        features: `view:feature`, or `view` for all of a view, in the answer's order.
        service: the model whose features are asked for, where no features are named; else empty.
        requests: one mapping a row.
        columns: the names of the entity columns, in the order of the request.
        full_names: whether features are named `view__feature` in the answer.
        at: the time of the question; None: now.
    """

    features: tuple[str, ...]
    service: str
    requests: Sequence[Mapping[str, Any]]
    columns: tuple[str, ...]
    full_names: bool
    at: datetime | None


def document(body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        RefusedError: it is no JSON (too deep nesting included), or no object.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"the body is not JSON: {str(error)[:200]}") from None
    if type(found) is not dict:
        raise RefusedError(400, f"the body is a JSON {_kind(found)}, not an object")
    return found


def keys_of(found: dict[str, Any]) -> list[Any]:
    """The keys of a question about one view.

    Raises:
        RefusedError: they are missing, are no list, or too many.
    """
    keys = found.get("keys")
    if type(keys) is not list:
        raise RefusedError(400, f"'keys' is {_kind(keys)}, not a list of keys")
    if len(keys) > MAX_KEYS:
        raise RefusedError(413, f"{len(keys)} keys are asked for; the most is {MAX_KEYS}")
    return keys


def time_of(found: Mapping[str, Any]) -> datetime | None:
    """The time of a question: `at`, an ISO 8601 time with a zone; None: now.

    Raises:
        RefusedError: it is something else.
    """
    at = found.get("at")
    if at is None:
        return None
    try:
        return utc(datetime.fromisoformat(at))
    except (TypeError, ValueError, OverflowError, UserError):
        raise RefusedError(
            422, f"'at' is {str(at)[:60]!r}, not a time with a zone such as 2025-01-31T12:00Z"
        ) from None


def asked(found: Mapping[str, Any]) -> Asked:
    """A question in Feast's form.

    Raises:
        RefusedError: a part is missing or of another kind.
    """
    features, service = found.get("features"), found.get("feature_service")
    if service is None and not (isinstance(features, list) and features and _all_texts(features)):
        raise RefusedError(
            400, "'features' is not a list of 'view:feature', and no 'feature_service' is named"
        )
    if service is not None and (features is not None or not isinstance(service, str)):
        raise RefusedError(400, "name either 'features' or one 'feature_service'")
    entities = found.get("entities")
    columns = dict(entities) if isinstance(entities, dict) else None
    extra = found.get("request_context")
    if columns is None or not (extra is None or isinstance(extra, dict)):
        raise RefusedError(400, f"'entities' is {_kind(entities)}, not an object of columns")
    columns |= extra or {}
    wrong = [name for name, values in columns.items() if not isinstance(values, list)]
    if wrong or not columns:
        raise RefusedError(
            400, f"columns {wrong} of 'entities' are not lists; there must be at least one column"
        )
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise RefusedError(400, f"the columns are of different lengths: {lengths}")
    count = next(iter(lengths.values()))
    if count > MAX_KEYS:
        raise RefusedError(413, f"{count} rows are asked for; the most is {MAX_KEYS}")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Asked(
        features=tuple(features or ()),
        service=service or "",
        requests=rows,
        columns=tuple(columns),
        full_names=bool(found.get("full_feature_names", False)),
        at=time_of(found),
    )


def _all_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), "a number")
