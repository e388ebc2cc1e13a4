"""A view as the online store keeps it: its name there, the layouts of its features and of its rows.

Knows what follows from the definition and the types of the source; it does not know stores.
"""

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from rayplat.core.errors import BugError, IntegrityError
from rayplat.core.project.view import FeatureView
from rayplat.features.aggregates.values import output_dtype
from rayplat.features.definition import OFFSET
from rayplat.features.online.keys import store_key
from rayplat.features.online.layout import Layout
from rayplat.features.online.row_values import transformed
from rayplat.features.online.store import Progress
from rayplat.features.online.tiles import Shape, shape
from rayplat.features.plan import Plan

_KEPT = 1024
_found: "dict[tuple[str, bytes], KeptView]" = {}


@dataclass(frozen=True, slots=True)
class KeptView:
    """What is worked out once for a view and a source schema.

    Attributes:
        plan: of the view.
        key: its name in the store.
        layout: of its features.
        shape: of windows that are kept as tiles; None: row transforms, or `inputs` is given.
        inputs: of the columns that its windows read, where some aggregate can only be computed from rows.
        schema: no rows, with the columns of the source.
        logged: whether the source's rows carry the offsets of a log.
    """

    plan: Plan
    key: str
    layout: Layout
    shape: Shape | None
    inputs: Layout | None
    schema: pl.DataFrame
    logged: bool


def kept(prepared: Plan, progress: Progress) -> KeptView:
    """What follows from a view's plan and the stored schema of its source.

    Raises:
        UserError: values are of a type that cannot be kept, or do not aggregate so.
        IntegrityError: the stored schema cannot be read.
    """
    name = (prepared.digest + prepared.view.name, progress.schema)
    found = _found.get(name)
    if found is None:
        if len(_found) >= _KEPT:
            _found.clear()
        found = _found[name] = _work_out(prepared, progress.schema)
    return found


def encode_schema(frame: pl.DataFrame) -> bytes:
    """The Arrow schema of source rows, as `Progress.schema` has it."""
    return bytes(frame.clear().to_arrow(compat_level=pl.CompatLevel.oldest()).schema.serialize())


def _work_out(prepared: Plan, stored: bytes) -> KeptView:
    view = prepared.view
    if not isinstance(view, FeatureView):
        raise BugError(f"view {view.name!r} has no online values")
    try:
        schema = pl.DataFrame(pa.ipc.read_schema(pa.py_buffer(stored)).empty_table())
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(
            f"the schema of {view.name!r} in the online store cannot be read: {error}",
            "remove the online store and materialize again",
        ) from error
    shaped, inputs = None, None
    features: dict[str, pl.DataType]
    if not prepared.windows:
        features = {**transformed(prepared, schema).schema}
    elif any(feature.kind == "expression" for feature in prepared.windows):
        features = {**schema.select(_results(prepared, schema)).schema}
        inputs = Layout({name: schema.schema[name] for name in view.inputs})
    else:
        shaped = shape(prepared, schema)
        features = {
            f.name: output_dtype(f.kind, shaped.streams[place].dtype) for f, place, _ in shaped.features
        }
    return KeptView(
        prepared, store_key(prepared), Layout(features), shaped, inputs, schema, OFFSET in schema.columns
    )


def _results(prepared: Plan, schema: pl.DataFrame) -> list[pl.Expr]:
    """Of each feature an expression of its type over no rows."""
    made = []
    for feature in prepared.windows:
        expr = feature.value
        if feature.kind != "expression":
            values = schema.with_columns(feature.value.alias("\0value")).get_column("\0value")
            expr = pl.lit(None).cast(output_dtype(feature.kind, values.dtype))
        made.append(expr.alias(feature.name))
    return made
