"""Labels that come later: what was true, told by prediction id or by a key of the request.

Knows the table `serving.labels` and how a label finds its predictions; it does not know what is measured on
them. A label is told by an application that sees an outcome before any source table does; of several for one
prediction the one that was told last counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
import pyarrow as pa

from rayplat.core.errors import UserError
from rayplat.core.ids import parse_prediction_id
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.rows import TABLE as PREDICTIONS
from rayplat.serve.outbox import microseconds

TABLE = "serving.labels"
_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("prediction_id", pa.string()),
        pa.field("key", pa.string()),
        pa.field("label", pa.bool_(), nullable=False),
        pa.field("at", _TIME, nullable=False),
        pa.field("told_by", pa.string(), nullable=False),
    ]
)
"""The columns of `serving.labels`; `key` is a JSON object with sorted names."""


@dataclass(frozen=True, slots=True)
class Told:
    """A label, of one prediction or of all whose request holds a key.

    Attributes:
        key: columns of the request and their values.
        at: when it was known (UTC).
    """

    endpoint: str
    label: bool
    at: datetime
    told_by: str
    prediction_id: str | None = None
    key: dict[str, str | int | bool] | None = None

    def __post_init__(self) -> None:
        if (self.prediction_id is None) == (not self.key):
            raise UserError("a label is of one prediction or of one key", "give an id, or columns and values")
        if self.prediction_id is not None:
            parse_prediction_id(self.prediction_id)


def tell(lake: Lakehouse, labels: Sequence[Told]) -> int:
    """Write labels in one snapshot; its id. They are durable when this returns."""
    columns = {
        "endpoint": [one.endpoint for one in labels],
        "prediction_id": [one.prediction_id for one in labels],
        "key": [_canonical(one.key) if one.key else None for one in labels],
        "label": [one.label for one in labels],
        "at": [microseconds(one.at) for one in labels],
        "told_by": [one.told_by for one in labels],
    }
    rows = pa.table(
        {f.name: pa.array(columns[f.name], pa.int64() if f.type == _TIME else f.type) for f in SCHEMA}
    ).cast(SCHEMA)
    return lake.ensure_schema(TABLE, SCHEMA).append(rows)


def labelled(lake: Lakehouse, endpoint: str) -> dict[str, bool]:
    """The labels of an endpoint's predictions that are in the lakehouse, by prediction id."""
    if not lake.exists(TABLE) or not lake.exists(PREDICTIONS):
        return {}
    told = lake.table(TABLE).read(where=f"endpoint == '{_plain(endpoint)}'").sort_by("at").to_pylist()
    by_id = {row["prediction_id"]: (row["at"], row["label"]) for row in told if row["prediction_id"]}
    by_key: dict[tuple[str, ...], dict[str, tuple[datetime, bool]]] = {}
    for row in told:
        if row["key"]:
            names = tuple(sorted(orjson.loads(row["key"])))
            by_key.setdefault(names, {})[row["key"]] = (row["at"], row["label"])
    answered = lake.table(PREDICTIONS).read(
        columns=["prediction_id", "request"], where=f"endpoint == '{_plain(endpoint)}'"
    )
    found: dict[str, bool] = {}
    for prediction_id, text in zip(*(answered[n].to_pylist() for n in answered.column_names), strict=True):
        request = orjson.loads(text)
        hits = [by_id[prediction_id]] if prediction_id in by_id else []
        for names, labels in by_key.items():
            key = _canonical({name: request.get(name) for name in names})
            hits += [labels[key]] if key in labels else []
        if hits:
            found[prediction_id] = max(hits)[1]
    return found


def _canonical(key: object) -> str:
    return orjson.dumps(key, option=orjson.OPT_SORT_KEYS).decode()


def _plain(endpoint: str) -> str:
    """An endpoint's name, safe inside a filter.

    Raises:
        UserError: it is no name.
    """
    if not endpoint.replace("_", "").replace("-", "").isalnum():
        raise UserError(f"{endpoint[:80]!r} is no endpoint's name", "use letters, digits, _ and -")
    return endpoint
