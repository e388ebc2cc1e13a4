"""What a request must hold: the columns that the features read, each of its declared type.

Knows how a body becomes instances, with every fault listed at once; it does not know what is computed
from them.
"""

import math
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import orjson

from rayplat.core.errors import UserError
from rayplat.core.project.column_types import vector_length
from rayplat.core.project.model import Model
from rayplat.core.project.table import Column
from rayplat.core.project.view import asking_columns

MAX_BODY_BYTES = 8 * 2**20
MAX_INSTANCES = 10_000
MAX_FAULTS = 100
"""How many faults one answer lists; the rest is counted."""

_INT32, _INT64 = 2**31, 2**63
# Half a step above the greatest float32 is rounded to infinity.
_BEYOND_FLOAT32 = 2.0**128 - 2.0**103
_SHOWN = 80
_BODY_KEYS = {"instances", "at"}


class RequestError(UserError):
    """A request that cannot be answered.

    Args:
        status: the HTTP status: 400 no JSON, 413 too large, 422 wrong content.
        faults: every fault, with its place in the body.
    """

    def __init__(self, status: int, faults: tuple[str, ...]) -> None:
        self.status = status
        self.faults = faults
        super().__init__("; ".join(faults[:3]), "send a body as GET on the endpoint describes it")

    def __reduce__(self) -> tuple[type["RequestError"], tuple[int, tuple[str, ...]]]:
        return type(self), (self.status, self.faults)


@dataclass(frozen=True, slots=True)
class Question:
    """A request that can be answered.

    Attributes:
        at: the time that the features shall be of, in UTC.
        instances: one row of the asking table each; times are UTC datetimes, columns that were not
            sent are absent.
    """

    at: datetime
    instances: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RequestForm:
    """What the instances of a model look like.

    Attributes:
        table: the name of the asking table.
        columns: the columns that may be sent, and their declarations.
        needed: those that must be sent.
        time: the event time of the asking table, if it is needed: left out, it is `at`, as it is in
            training by definition.
    """

    table: str
    columns: Mapping[str, Column]
    needed: tuple[str, ...]
    time: str | None

    def describe(self) -> dict[str, dict[str, Any]]:
        """The columns for people: type, unit, meaning, and whether they must be sent."""
        return {
            name: {
                "type": column.type,
                "needed": name in self.needed,
                "nullable": column.nullable,
                **({"unit": column.unit} if column.unit else {}),
                **({"description": column.description} if column.description else {}),
            }
            for name, column in self.columns.items()
        }

    def parse(self, body: bytes, now: datetime) -> Question:
        """Read a body: `{"instances": [{column: value, ...}, ...], "at": ISO time or null}`.

        Args:
            now: what `at` is where the body gives none (UTC).

        Raises:
            RequestError: with every fault of the body.
        """
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestError(400, (f"the body is not JSON: {error}",)) from error
        return self.read(content, now)

    def read(self, content: Any, now: datetime) -> Question:
        """Read what a body holds; see `parse`."""
        faults: list[str] = []
        at = _time_asked(content, now, faults)
        rows = _rows(content, faults)
        instances = [self._instance(row, i, at, faults) for i, row in enumerate(rows)]
        if faults:
            more = len(faults) - MAX_FAULTS
            listed = faults[:MAX_FAULTS] + ([f"and {more} faults more"] if more > 0 else [])
            raise RequestError(422, tuple(listed))
        return Question(at, instances)

    def _instance(self, row: Any, place: int, at: datetime, faults: list[str]) -> dict[str, Any]:
        if not isinstance(row, dict):
            faults.append(f"instances[{place}]: {_shown(row)} is not an object")
            return {}
        instance: dict[str, Any] = {}
        for name, value in row.items():
            column = self.columns.get(name)
            if column is None:
                faults.append(f"instances[{place}].{_shown(name)}: {self.table} has no such column")
            else:
                instance[name] = _value(value, column, f"instances[{place}].{name}", faults)
        if self.time is not None:
            instance.setdefault(self.time, at)
        faults.extend(
            f"instances[{place}].{name}: missing ({self.columns[name].type})"
            for name in self.needed
            if name not in instance
        )
        return instance


def form_of(model: Model) -> RequestForm:
    """What must be sent to ask `model`: entity columns and what its views read of the asking row."""
    needed = set(asking_columns(model.features))
    time = model.rows.event_time
    return RequestForm(
        table=model.rows.name,
        columns=model.rows.columns,
        needed=tuple(c for c in model.rows.columns if c in needed),
        time=time if time in needed else None,
    )


def _time_asked(content: Any, now: datetime, faults: list[str]) -> datetime:
    given = content.get("at") if isinstance(content, dict) else None
    if given is None:
        return now
    try:
        return time_of(given)
    except ValueError as error:
        faults.append(f"at: {error}")
        return now


def _rows(content: Any, faults: list[str]) -> list[Any]:
    if not isinstance(content, dict):
        faults.append(f"the body is {_shown(content)}, not an object")
        return []
    faults.extend(
        f"{_shown(key)}: not known here; the body has `instances` and `at`" for key in _extra(content)
    )
    rows = content.get("instances")
    if not isinstance(rows, list) or not rows:
        faults.append("instances: a list of at least one object is needed")
        return []
    if len(rows) > MAX_INSTANCES:
        faults.append(f"instances: {len(rows)} are too many; send at most {MAX_INSTANCES} at once")
        return []
    return rows


def _extra(content: Mapping[str, Any]) -> Iterator[str]:
    return (key for key in content if key not in _BODY_KEYS)


def _value(value: Any, column: Column, place: str, faults: list[str]) -> Any:
    if value is None:
        if not column.nullable:
            faults.append(f"{place}: null, but a {column.type} must be given")
        return None
    try:
        read = _READ.get(column.type)
        return _vector(value, vector_length(column.type) or 0) if read is None else read(value)
    except ValueError as error:
        faults.append(f"{place}: {error}")
        return None


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is not a string")
    return value


def _int64(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is not a whole number (int64)")
    if not -_INT64 <= value < _INT64:
        raise ValueError(f"{_shown(value)} does not fit into int64")
    return value


def _int32(value: Any) -> int:
    number = _int64(value)
    if not -_INT32 <= number < _INT32:
        raise ValueError(f"{_shown(value)} does not fit into int32")
    return number


def _date(value: Any) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"{_shown(value)} is not an ISO 8601 date such as 2013-09-01") from None


def _binary(value: Any) -> bytes:
    try:
        return b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise ValueError(f"{_shown(value)} is not bytes in base64") from None


def _float64(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is not a number (float64)")
    if not math.isfinite(value):
        raise ValueError("an infinite number is not a float64 value here")
    return float(value)


def _vector(value: Any, length: int) -> list[float]:
    if not isinstance(value, list) or len(value) != length:
        raise ValueError(f"{_shown(value)} is not a list of {length} numbers")
    numbers = [_float64(one) for one in value]
    if any(abs(one) >= _BEYOND_FLOAT32 for one in numbers):
        raise ValueError(f"{_shown(value)} has a number that does not fit into float32")
    return numbers


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is not true or false (bool)")
    return value


def time_of(value: Any) -> datetime:
    """An ISO 8601 time in UTC; one without a zone is in UTC.

    Raises:
        ValueError: it is none.
    """
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{_shown(value)} is not an ISO 8601 time such as 2013-09-01T12:00:00Z") from None


_READ: dict[str, Callable[[Any], Any]] = {
    "string": _string,
    "int32": _int32,
    "int64": _int64,
    "float32": _float64,
    "float64": _float64,
    "bool": _bool,
    "date": _date,
    "binary": _binary,
    "timestamp": time_of,
}


def _shown(value: Any) -> str:
    """A value for a message: short, whatever was sent."""
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # deeper nested than is written, though not than is read
        text = f"a deeply nested {'list' if isinstance(value, list) else 'object'}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
