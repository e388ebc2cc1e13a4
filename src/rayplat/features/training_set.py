"""The training set of a model: built once from pinned snapshots, found again ever after.

Knows when a training set that exists is still the one that would be built; it does not know how rows,
labels and features come together, nor who trains on it.

Identity: the recipe (definitions, label, periods) and the rows of the sources known before the end of the
test period. While both are unchanged (see `training_pins`) the snapshot that exists is returned, whatever
was ingested since; so a crash at any point and a rerun give one snapshot.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from rayplat.core.events import EventBus, FeatureSuspected, TrainingSetBuilt
from rayplat.core.project.model import Model
from rayplat.core.project.table import Table
from rayplat.features.definition import describe_as_asked, digest_as_asked, digest_of, expression
from rayplat.features.guard import all_views, columns_of, guard
from rayplat.features.lake import Lake, pin
from rayplat.features.suspects import Suspect, suspects
from rayplat.features.training_pins import unchanged
from rayplat.features.training_rows import LABEL, SPLIT, assemble, content_digest

Hold = Callable[[str, int], None]
"""Keeps a snapshot of a table from being expired."""

_FORMAT = 1
_PREFIX = "rayplat.training."
_SUSPECTS = f"{_PREFIX}suspects"


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A training set that is durable.

    Attributes:
        table: the Iceberg table.
        snapshot_id: its snapshot.
        digest: the SHA-256 of its content.
        rows_train: rows before `train_until`.
        rows_test: rows from there to `test_until`.
        unlabelled: questions that were left out, because no label was known before `test_until`.
        sources: the snapshot of each source that was read, by table.
        suspects: features that alone nearly tell the label in the training period (see `suspects`).
    """

    table: str
    snapshot_id: int
    digest: str
    rows_train: int
    rows_test: int
    unlabelled: int
    sources: dict[str, int]
    suspects: tuple[Suspect, ...] = ()


def recipe(model: Model) -> str:
    """The SHA-256 of everything but the data that decides the content of a training set."""
    label = model.label
    described: dict[str, Any] = {
        "format": _FORMAT,
        "model": model.name,
        "rows": _table(model.rows),
        "label": {"source": _table(label.source), "on": list(label.keys), "value": expression(label.value)},
        "features": [describe_as_asked(view) for view in model.features],
        "train_until": model.train_until.isoformat(),
        "test_until": model.test_until.isoformat(),
    }
    return digest_of(described)


def _table(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "key": list(table.key),
        "event_time": table.event_time,
        "known_at": table.known_at,
    }


def _held_by_nobody(_table: str, _snapshot_id: int) -> None:
    """Snapshots are safe for as long as expiry leaves young ones alone."""


def build_training_set(lake: Lake, model: Model, bus: EventBus, hold: Hold = _held_by_nobody) -> TrainingSet:
    """Build the training set of a model, or find the one that exists.

    Emits `TrainingSetBuilt` when a snapshot is written, and `FeatureSuspected` for each feature that is too
    good to be true.

    Args:
        hold: is told each snapshot before it is read, and the training set's own, so that nothing expires it
            until a registered model's manifest names it.

    Raises:
        UserError: a feature could know the label, a feature is not a number, or a period has no rows.
        ConflictError: a source's snapshot is being expired.
        NotFoundError: a source table does not exist.
    """
    guard(model)
    name = f"training.{model.name}"
    found = _find(lake, name, model)
    if found is not None and _still_true(lake, model, found):
        return _held(found, hold)
    snapshots = pin(lake, [table.name for table in _sources(model)])
    for source, snapshot_id in snapshots.items():
        hold(source, snapshot_id)
    made, unlabelled = assemble(lake, model, snapshots)
    digest = content_digest(made)
    if found is not None and found.digest == digest:
        # Rows came that change no value, such as corrections of what no question asks for.
        return _held(found, hold)
    properties = _properties(model, made, digest, unlabelled, snapshots)
    properties[_SUSPECTS] = _dump([asdict(suspect) for suspect in _suspects(model, made)])
    built = _write(lake, name, _arrow(made, model), properties)
    bus.emit(
        TrainingSetBuilt(
            model=model.name,
            snapshot_id=built.snapshot_id,
            rows=made.height,
            digest=digest,
            sources=built.sources,
        )
    )
    for suspect in built.suspects:
        bus.emit(FeatureSuspected(model=model.name, snapshot_id=built.snapshot_id, **asdict(suspect)))
    return _held(built, hold)


def _held(found: TrainingSet, hold: Hold) -> TrainingSet:
    for table, snapshot_id in {**found.sources, found.table: found.snapshot_id}.items():
        hold(table, snapshot_id)
    return found


def _suspects(model: Model, made: pl.DataFrame) -> list[Suspect]:
    """Features that alone nearly tell the label in the training period, and what they are made of."""
    train = made.filter(pl.col(SPLIT) == "train")
    values = [(name, train.get_column(name).to_numpy()) for name in model.feature_names]
    found = suspects(values, train.get_column(LABEL).to_numpy(), model.suspect_auc)
    reads = {name: columns for view in model.features for name, columns in columns_of(view).items()}
    return [replace(suspect, reads=reads[suspect.feature]) for suspect in found]


def _sources(model: Model) -> list[Table]:
    tables = [model.rows, model.label.source, *(view.source for view in all_views(model))]
    return list({table.name: table for table in tables if table is not None}.values())


def _find(lake: Lake, name: str, model: Model) -> TrainingSet | None:
    """The newest snapshot that was built by the same recipe."""
    if not lake.exists(name):
        return None
    wanted = recipe(model)
    for snapshot in reversed(lake.table(name).history()):
        if snapshot.properties.get(f"{_PREFIX}recipe") == wanted:
            return _from_properties(name, snapshot.snapshot_id, snapshot.properties)
    return None


def _still_true(lake: Lake, model: Model, found: TrainingSet) -> bool:
    return all(
        unchanged(lake.table(table.name), table, found.sources.get(table.name), model.test_until)
        for table in _sources(model)
    )


def _from_properties(name: str, snapshot_id: int, properties: Mapping[str, str]) -> TrainingSet:
    return TrainingSet(
        table=name,
        snapshot_id=snapshot_id,
        digest=properties[f"{_PREFIX}digest"],
        rows_train=int(properties[f"{_PREFIX}rows_train"]),
        rows_test=int(properties[f"{_PREFIX}rows_test"]),
        unlabelled=int(properties[f"{_PREFIX}unlabelled"]),
        sources=orjson.loads(properties[f"{_PREFIX}sources"]),
        suspects=tuple(
            Suspect(**{**told, "reads": tuple(told["reads"])})
            for told in orjson.loads(properties.get(_SUSPECTS, "[]"))
        ),
    )


def _properties(
    model: Model, made: pl.DataFrame, digest: str, unlabelled: int, snapshots: Mapping[str, int]
) -> dict[str, str]:
    train = int((made.get_column(SPLIT) == "train").sum())
    definitions = {view.name: digest_as_asked(view) for view in model.features}
    return {
        f"{_PREFIX}recipe": recipe(model),
        f"{_PREFIX}digest": digest,
        f"{_PREFIX}rows_train": str(train),
        f"{_PREFIX}rows_test": str(made.height - train),
        f"{_PREFIX}unlabelled": str(unlabelled),
        f"{_PREFIX}sources": _dump(dict(snapshots)),
        f"{_PREFIX}definitions": _dump(definitions),
    }


def _dump(data: Any) -> str:
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()


def _write(lake: Lake, name: str, data: pa.Table, properties: Mapping[str, str]) -> TrainingSet:
    data = _with_former_columns(lake, name, data)
    snapshot_id = lake.ensure_schema(name, data.schema).overwrite(data, properties)
    return _from_properties(name, snapshot_id, properties)


def _arrow(made: pl.DataFrame, model: Model) -> pa.Table:
    data = made.to_arrow(compat_level=pl.CompatLevel.oldest())
    features = set(model.feature_names)
    fields = [
        # A feature that comes later is a column that older snapshots lack, so features are nullable.
        pa.field(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type, f.name in features)
        for f in data.schema
    ]
    return data.cast(pa.schema(fields))


def _with_former_columns(lake: Lake, name: str, data: pa.Table) -> pa.Table:
    """Columns of features that the model no longer has stay, empty: older snapshots need them."""
    if not lake.exists(name):
        return data
    for field in lake.table(name).schema():
        if field.name not in data.schema.names:
            data = data.append_column(pa.field(field.name, field.type), pa.nulls(data.num_rows, field.type))
    return data
