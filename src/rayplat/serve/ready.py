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
from typing import Any

import numpy as np
import orjson
import polars as pl

from rayplat.core.project.view import FeatureView, RequestView, View
from rayplat.features.instants import BEGINNING, to_micros
from rayplat.features.online.head import ROW, VALUES_AT, read_head
from rayplat.features.online.kept import kept
from rayplat.features.online.keys import store_key
from rayplat.features.online.store import OnlineStore, Progress
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
    """Feature values by their full names, a mapping an instance, and where each came from."""

    rows: list[Row]
    provenance: Sequence[Mapping[str, Any]]


def assembled_rows(rows: Sequence[Row], inputs: Sequence[str]) -> tuple[list[Row], Array]:
    """The inputs' values by row, and as float32 of shape [rows, inputs], NaN where missing."""
    chosen = [{name: row[name] for name in inputs} for row in rows]
    with np.errstate(over="ignore"):
        x = np.array(
            [[np.nan if v is None else v for v in row.values()] for row in chosen], np.float64
        ).astype(np.float32)
    return chosen, x.reshape(len(rows), len(inputs))


def _exact(value: Any) -> bool:
    """Whether a number is the same as a float64; others would be rounded twice on the way to float32."""
    return type(value) is not int or -_MOST_EXACT <= value <= _MOST_EXACT


class _Standing:
    """One view whose answers stand ready."""

    def __init__(self, view: FeatureView, kinds: Sequence[type]) -> None:
        self._view = view
        self._plan = plan(view)
        self._asks = tuple(zip(view.asks, kinds, strict=True))
        self.key = store_key(self._plan)

    def entities(self, instances: Sequence[Mapping[str, Any]]) -> list[bytes] | None:
        """The entities' names in the store; None where a key is null, or not plainly of its type."""
        names = []
        for instance in instances:
            values = [instance.get(column) for column, _ in self._asks]
            for value, (_, kind) in zip(values, self._asks, strict=True):
                if type(value) is not kind:
                    return None
            try:
                names.append(orjson.dumps(values))
            except orjson.JSONEncodeError:
                return None
        return names

    def tell(
        self,
        progress: Progress,
        heads: Sequence[bytes | None],
        at: int,
        rows: Sequence[Row],
        provenance: Sequence[dict[str, Any]],
    ) -> bool:
        """Add values and provenance to each instance; False where the general way must tell."""
        found = kept(self._plan, progress)
        if not _NUMBERS.issuperset(found.layout.schema.values()):
            return False
        view, names, ttl = self._view, self._view.names, self._plan.ttl_us
        for data, row, sources in zip(heads, rows, provenance, strict=True):
            head = None if data is None else read_head(data)
            if head is not None and (head.visible > at or head.kind != ROW):
                return False
            if data is None or head is None or (ttl is not None and at - head.event > ttl):
                row.update(dict.fromkeys(names))
                sources[view.name] = None
                continue
            values = found.layout.values(data, VALUES_AT)
            if not all(map(_exact, values)):
                return False
            row.update(zip(names, values, strict=True))
            timed = head.event != BEGINNING
            sources[view.name] = {
                "event_time": _EPOCH + timedelta(microseconds=head.event) if timed else None,
                "partition": head.partition if found.logged else None,
                "offset": head.offset if found.logged else None,
                "snapshot_id": progress.snapshot_id,
            }
        return True


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
        self._standing: list[_Standing] = []
        self._copied: dict[str, tuple[str, type]] = {}
        self._possible = all(self._prepared(view) for view in views)

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
        rows: list[Row] = []
        copied = self._copied.items()
        for instance in instances:
            row: Row = {}
            for name, (column, kind) in copied:
                value = instance.get(column, _ABSENT)
                if value is not None and (type(value) is not kind or not _exact(value)):
                    return None
                row[name] = value
            rows.append(row)
        provenance: list[dict[str, Any]] = [{} for _ in instances]
        if not self._standing:
            return Ready(rows, provenance)
        named = [one.entities(instances) for one in self._standing]
        if None in named:
            return None
        read = self._online.read(
            lambda reader: [
                (reader.progress(one.key), reader.heads(one.key, names or []))
                for one, names in zip(self._standing, named, strict=True)
            ]
        )
        for one, (progress, heads) in zip(self._standing, read, strict=True):
            if progress is None or not one.tell(progress, heads, at, rows, provenance):
                return None
        return Ready(rows, provenance)
