"""Evolution: the steps that lead from a table as it is to the table that is wanted, or why there are none.

Knows what Iceberg allows; it changes nothing (see `alteration`). Columns are followed by field id.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import SortDirection
from pyiceberg.transforms import Transform, VoidTransform

from rayplat.core.project.table import Partitioning
from rayplat.data.lakehouse.declared import KEY, MODE, PROPERTIES, Declared
from rayplat.data.lakehouse.partitioning import transform_of
from rayplat.data.lakehouse.schema import documentation, iceberg_type, identifiers, is_vector, plain
from rayplat.data.lakehouse.vectors import VECTORS, changed, lengths_of

_WIDER = {(pa.int32(), pa.int64()), (pa.float32(), pa.float64())}


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a table.

    Attributes:
        kind: `create`, `rename`, `add`, `widen`, `relax`, `doc`, `drop`, `key`, `partition`, `sort` or
            `property`.
        subject: the column or property; empty where the table as a whole changes.
        what: the change, for people.
    """

    kind: str
    subject: str
    what: str


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What it takes to make a table what is wanted.

    Attributes:
        table: its name.
        steps: the changes, in the order in which they are made.
        refused: why it cannot be done; where there is a reason, no step is made.
    """

    table: str
    steps: tuple[Step, ...] = ()
    refused: tuple[str, ...] = ()

    def of(self, kind: str) -> list[str]:
        """The subjects of the steps of one kind."""
        return [step.subject for step in self.steps if step.kind == kind]


def plan(have: TableMetadata | None, want: Declared, *, allow_drop: bool = False) -> TablePlan:
    """Compare a table with what is wanted.

    Args:
        have: the table's metadata; None: there is no such table.
        want: what it is to be.
        allow_drop: whether columns that are not wanted any more may be dropped.
    """
    if have is None:
        return TablePlan(want.name, (Step("create", "", f"create it with {len(want.schema)} columns"),))
    comparison = _Comparison(have, want)
    steps = [*comparison.columns(), *comparison.key(), *comparison.layout(), *comparison.properties()]
    refused = comparison.refused
    if not allow_drop:
        refused += [
            f"{s.subject} is in the table and no longer declared (--allow-drop drops it)"
            for s in steps
            if s.kind == "drop"
        ]
    return TablePlan(want.name, tuple(steps), tuple(refused))


class _Comparison:
    """Finds the steps; reasons against them are gathered in `refused`."""

    def __init__(self, have: TableMetadata, want: Declared) -> None:
        self.refused: list[str] = []
        self._metadata = have
        self._want = want
        self._schema: Schema = have.schema()
        self._have = plain(self._schema.as_arrow())
        self._renamed = self._renames()

    def _renames(self) -> dict[str, str]:
        """New name to old name, for the columns that are still called by their old name."""
        found = {}
        for new, old in self._want.renamed.items():
            if old not in self._have.names or new not in self._want.schema.names:
                continue  # renamed long ago, or a new table
            if new in self._have.names:
                self.refused.append(f"{old} cannot become {new}: the table has a column {new} already")
            else:
                found[new] = old
        return found

    def columns(self) -> Iterator[Step]:
        known = {self._renamed.get(f.name, f.name) for f in self._want.schema}
        for field in self._want.schema:
            old = self._renamed.get(field.name, field.name)
            if old != field.name:
                yield Step("rename", field.name, f"rename column {old} to {field.name}")
            if old in self._have.names:
                yield from self._changes(field, self._have.field(old))
            elif field.nullable:
                yield Step("add", field.name, f"add column {field.name} ({field.type})")
            else:
                self.refused.append(f"{field.name} is new and may not be null, but old rows have no value")
        for name in self._have.names:
            if name not in known:
                self._check_drop(name)
                yield Step("drop", name, f"drop column {name}")

    def _changes(self, want: pa.Field, have: pa.Field) -> Iterator[Step]:
        kind = plain(pa.schema([want])).field(0).type
        if (have.type, kind) in _WIDER:
            yield Step("widen", want.name, f"widen column {want.name} from {have.type} to {kind}")
        elif have.type != kind:
            self.refused.append(f"{want.name} is {have.type} and declared {kind}")
        if want.nullable and not have.nullable:
            yield Step("relax", want.name, f"column {want.name} may be null")
        elif have.nullable and not want.nullable:
            self.refused.append(f"{want.name} is nullable and declared not nullable")
        doc = documentation(want) or ""
        if doc != (self._schema.find_field(have.name).doc or "") and self._want.properties is not None:
            yield Step("doc", want.name, f"column {want.name} is documented as {doc!r}")

    def _check_drop(self, name: str) -> None:
        field_id = self._schema.find_field(name).field_id
        specs = self._metadata.partition_specs
        if any(
            f.source_id == field_id and not isinstance(f.transform, VoidTransform)
            for s in specs
            for f in s.fields
        ):
            self.refused.append(f"{name} cannot be dropped: files of the table are partitioned by it")

    def key(self) -> Iterator[Step]:
        key = self._want.key
        if key is None:
            return
        have = {self._new_name(name) for name in self._schema.identifier_field_names()}
        want = identifiers(self._want.schema, key)
        if have != want:
            yield Step("key", "", f"rows are named by {', '.join(n for n in key if n in want) or 'nothing'}")

    def _new_name(self, old: str) -> str:
        return next((new for new, name in self._renamed.items() if name == old), old)

    def layout(self) -> Iterator[Step]:
        if self._want.partition_by is not None:
            have = {(self._name(f.source_id), str(f.transform)) for f in self._metadata.spec().fields}
            want = [(t.column, str(transform_of(t))) for t in self._want.partition_by]
            if have != set(want) and self._may_partition(self._want.partition_by):
                text = ", ".join(f"{transform}({column})" for column, transform in want)
                yield Step("partition", "", f"partition new files by {text or 'nothing'}")
        if self._want.order is not None:
            order = self._metadata.sort_order_by_id(self._metadata.default_sort_order_id)
            found = [
                (self._name(f.source_id), f.direction is SortDirection.DESC)
                for f in (order.fields if order else ())
            ]
            if found != list(self._want.order):
                text = ", ".join(f"-{c}" if greatest else c for c, greatest in self._want.order)
                yield Step("sort", "", f"sort new files by {text or 'nothing'}")

    def _may_partition(self, terms: tuple[Partitioning, ...]) -> bool:
        good = True
        for term in terms:
            kind = iceberg_type(self._want.schema.field(term.column), self._want.name)
            transform: Transform[object, object] = transform_of(term)
            if not transform.can_transform(kind):
                self.refused.append(f"{term.transform} does not take {term.column}, a {kind}")
                good = False
        return good

    def _name(self, field_id: int) -> str:
        """The name that a column will have; its id where it is gone."""
        name = self._schema.find_column_name(field_id)
        return self._new_name(name) if name else f"#{field_id}"

    def properties(self) -> Iterator[Step]:
        want = self._want.properties
        if want is None:
            return
        have = self._metadata.properties
        for name in PROPERTIES:
            old, new = have.get(name, ""), want.get(name, "")
            if old != new:
                self._check_property(name, old, new)
                yield Step("property", name, f"property {name}: {old or 'none'} -> {new or 'none'}")

    def _check_property(self, name: str, old: str, new: str) -> None:
        snapshot = self._metadata.current_snapshot()
        told = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
        if not int(told.get("total-records", 0)):
            return
        upsert = (self._want.properties or {}).get(MODE) == "upsert"
        if name == VECTORS:
            wanted = lengths_of(self._want.properties or {})
            have = lengths_of(self._metadata.properties)
            self.refused += changed(have, wanted, self._renamed)
            self.refused += [
                f"{new_name} is a list of any length and declared vector({length}): stored ones may be longer"
                for new_name, length in wanted.items()
                if (old_name := self._renamed.get(new_name, new_name)) in self._have.names
                and old_name not in have
                and is_vector(self._have.field(old_name).type)
            ]
        if name == MODE and upsert and old:
            self.refused.append("the mode cannot become upsert: rows of the table may share a key")
        if name == KEY and upsert and old and not self._renamed:
            self.refused.append(f"the key {old} cannot become {new}: the table's rows may not differ in it")
