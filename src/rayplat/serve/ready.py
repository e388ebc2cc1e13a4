"""Features that stand ready in the online store, found without a query of Polars.

Knows which views and questions are answered so, and that the values are those of `get_online_features`; it
does not know stores, nor models.

A view of row transforms of an entity is answered by its head, as long as the question is of now and the
head's row is visible. A view of the asking row is, where each of its features is a column as it is. All else
is left to the general way, the whole question with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
import polars as pl

from rayplat.core.project.view import FeatureView, RequestView, View
from rayplat.features.instants import BEGINNING, to_micros
from rayplat.features.online.head import HEADER, ROW, VALUES_AT, VERSION, read_head
from rayplat.features.online.kept import KeptView, kept
from rayplat.features.online.keys import store_key
from rayplat.features.online.store import Held, OnlineStore, decode_progress
from rayplat.features.plan import plan

MOST_INSTANCES = 64
"""More are answered by the general way, which costs less a row then."""

_PLAIN: dict[str, type] = {"string": str, "int64": int, "int32": int, "bool": bool}
_COPIED: dict[str, type] = {"int64": int, "int32": int, "bool": bool, "float64": float}
_NUMBERS = frozenset(
    {
        *(pl.Float32, pl.Float64, pl.Boolean),
        *(pl.Int8, pl.Int16, pl.Int32, pl.Int64),
        *(pl.UInt8, pl.UInt16, pl.UInt32),
    }
)
_MOST_EXACT = 2**53
_ABSENT = object()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Row = dict[str, Any]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """Feature values by their full names, a mapping an instance, and where each came from.

    Attributes:
        names: of the values, where every row has these in this order.
    """

    rows: list[Row]
    provenance: Sequence[Mapping[str, Any]]
    names: tuple[str, ...] | None = None


def assembled_rows(
    rows: Sequence[Row], inputs: Sequence[str], names: tuple[str, ...] | None = None
) -> tuple[Sequence[Row], Array]:
    """The inputs' values by row, and as float32 of shape [rows, inputs], NaN where missing.

    Args:
        names: as of `Ready`.
    """
    chosen = rows if names == inputs else [{name: row[name] for name in inputs} for row in rows]
    with np.errstate(over="ignore"):
        # None is NaN as a float64.
        x = np.array([[*row.values()] for row in chosen], np.float64).astype(np.float32)
    return chosen, x.reshape(len(rows), len(inputs))


def _exact(value: Any) -> bool:
    """Whether a number is the same as a float64; others would be rounded twice on the way to float32."""
    return type(value) is not int or -_MOST_EXACT <= value <= _MOST_EXACT


_Known = tuple[KeptView | None, bool, int | None]
"""A view as it stands (None: the general way must tell), whether no value is rounded twice, its snapshot."""


class _Standing:
    """One view whose answers stand ready."""

    def __init__(self, view: FeatureView, kinds: Sequence[type]) -> None:
        self._view = view
        self._plan = plan(view)
        self._asks = tuple(zip(view.asks, kinds, strict=True))
        self.key = store_key(self._plan)
        self._known: tuple[bytes, _Known] = b"", (None, False, None)

    def entities(self, instances: Sequence[Mapping[str, Any]]) -> list[bytes] | None:
        """The entities' names in the store; None where a key is null, or not plainly of its type."""
        columns = []
        for column, kind in self._asks:
            values = [instance.get(column) for instance in instances]
            if any(type(value) is not kind for value in values):
                return None
            columns.append(values)
        try:
            return [orjson.dumps(values) for values in zip(*columns, strict=True)]
        except orjson.JSONEncodeError:
            return None

    def tell(
        self,
        standing: bytes | None,
        heads: Sequence[Held],
        at: int,
        rows: Sequence[Row],
        provenance: Sequence[dict[str, Any]],
    ) -> bool:
        """Add values and provenance to each instance; False where the general way must tell."""
        found, exact, snapshot = self._known_of(standing)
        if found is None:
            return False
        name, names, ttl = self._view.name, self._view.names, self._plan.ttl_us
        read, logged = found.layout.values, found.logged
        for data, row, sources in zip(heads, rows, provenance, strict=True):
            if data is not None:
                whole = bytes(data)
                if len(whole) < VALUES_AT:
                    read_head(whole)  # raises
                version, kind, _, _, event, _, offset, partition, _, visible, _, _ = HEADER.unpack_from(whole)
                if version != VERSION:
                    read_head(whole)  # raises
                if visible > at or kind != ROW:
                    return False
            if data is None or (ttl is not None and at - event > ttl):
                row.update(dict.fromkeys(names))
                sources[name] = None
                continue
            values = read(whole, VALUES_AT)
            if not exact and not all(map(_exact, values)):
                return False
            row.update(zip(names, values, strict=True))
            sources[name] = {
                "event_time": _moment(event),
                "partition": partition if logged else None,
                "offset": offset if logged else None,
                "snapshot_id": snapshot,
            }
        return True

    def _known_of(self, standing: bytes | None) -> _Known:
        if standing is None:
            return None, False, None
        before, known = self._known
        if standing != before:
            progress = decode_progress(standing)
            found = kept(self._plan, progress)
            schema = found.layout.schema.values()
            exact = all(dtype.is_float() for dtype in schema)
            known = found if _NUMBERS.issuperset(schema) else None, exact, progress.snapshot_id
            self._known = standing, known  # at once: several threads may ask
        return known


@lru_cache(4096)
def _moment(micros: int) -> datetime | None:
    """A time as it is told; None: it is always."""
    return None if micros == BEGINNING else _EPOCH + timedelta(microseconds=micros)


class ReadyFeatures:
    """The features of one model.

    Args:
        online: the store.
        views: of the model.
        general: answers what does not stand ready: instances, and the time of the question.
    """

    def __init__(
        self,
        online: OnlineStore,
        views: Sequence[View],
        general: Callable[[Sequence[Mapping[str, Any]], datetime], Any],
    ) -> None:
        self._online = online
        self._general = general
        self._views = [view for view in views if isinstance(view, FeatureView)]
        self._standing: list[_Standing] = []
        self._copied: dict[str, tuple[str, type]] = {}
        self._possible = all(self._prepared(view) for view in views)
        copied, standing = tuple(self._copied), [name for view in self._views for name in view.names]
        self._names = (*standing, *copied)
        self.reads = tuple(sorted((view.name, plan(view).digest) for view in views))
        """What is read: lookups of one store that have the same read the same."""

    def __call__(self, instances: Sequence[Mapping[str, Any]], at: datetime) -> Any:
        """The features of instances at a time."""
        if self._possible and len(instances) <= MOST_INSTANCES:
            found = self._found(instances, to_micros(at))
            if found is not None:
                return found
        return self._general(instances, at)

    def _prepared(self, view: View) -> bool:
        """Take a view in; whether that can be done."""
        if isinstance(view, FeatureView):
            if view.windowed or view.required or view.defaults or view.through:
                return False
            kinds = [_PLAIN.get(view.source.columns[column].type) for column in view.entity]
            if None in kinds:
                return False
            self._standing.append(_Standing(view, [kind for kind in kinds if kind is not None]))
            return True
        return isinstance(view, RequestView) and self._copies(view)

    def _copies(self, view: RequestView) -> bool:
        """Take a view of the asking row in; whether that can be done."""
        for name, feature in zip(view.names, view.features.values(), strict=True):
            meta = getattr(feature, "meta", None)
            if meta is None or not meta.is_column() or meta.has_multiple_outputs():
                return False
            column = meta.output_name()
            kind = _COPIED.get(view.source.columns[column].type)
            if kind is None or column == view.source.event_time:
                return False
            self._copied[name] = column, kind
        return True

    def _found(self, instances: Sequence[Mapping[str, Any]], at: int) -> Ready | None:
        rows: list[Row] = [{} for _ in instances]
        provenance: list[dict[str, Any]] = [{} for _ in instances]
        if self._standing:
            named: list[tuple[_Standing, list[bytes]]] = []
            for one in self._standing:
                names = one.entities(instances)
                if names is None:
                    return None
                named.append((one, names))
            told = self._online.look(
                lambda glance: all(
                    one.tell(glance.standing(one.key), glance.heads(one.key, names), at, rows, provenance)
                    for one, names in named
                )
            )
            if not told:
                return None
        for name, (column, kind) in self._copied.items():
            for instance, row in zip(instances, rows, strict=True):
                value = instance.get(column, _ABSENT)
                if value is not None and (type(value) is not kind or not _exact(value)):
                    return None
                row[name] = value
        return Ready(rows, provenance, self._names)
