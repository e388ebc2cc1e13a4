"""Alteration: a plan's steps, carried out in one transaction of the table.

Knows how Iceberg is told of each change; it does not know which changes are wanted (see `evolution`).
"""

from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table as NativeTable
from pyiceberg.table import Transaction
from pyiceberg.table.sorting import NullOrder
from pyiceberg.transforms import IdentityTransform

from rayplat.core.project.table import Partitioning
from rayplat.data.lakehouse.declared import PROPERTIES, Declared
from rayplat.data.lakehouse.evolution import TablePlan
from rayplat.data.lakehouse.partitioning import field_name, order_of, spec_of, transform_of
from rayplat.data.lakehouse.schema import documentation, iceberg_schema, iceberg_type, identifiers

BASE_PROPERTIES = {
    # pyiceberg's own retry would let a second ingest driver commit the same offsets again; every retry
    # here is ours and looks at the table first.
    "commit.retry.num-retries": "0",
    "write.parquet.compression-codec": "zstd",
    # Each metadata file lists all snapshots: keeping every past one would grow with their square.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}
"""What every table of the platform is told."""


def create(catalog: Catalog, want: Declared) -> None:
    """Make a table.

    Raises:
        TableAlreadyExistsError: somebody was faster.
        UserError: a column's type is not kept, or a term of the partitioning does not take its column.
    """
    schema = iceberg_schema(want.schema, want.name, want.key or ())
    catalog.create_table(
        want.name,
        schema,
        partition_spec=spec_of(want.partition_by or (), schema, want.name),
        sort_order=order_of(want.order or (), schema),
        properties={**BASE_PROPERTIES, **(want.properties or {})},
    )


def alter(native: NativeTable, plan: TablePlan, want: Declared) -> None:
    """Carry a plan out, in one commit that succeeds only if nobody changed the table since it was loaded.

    Args:
        native: the table, as it was when the plan was made.
        plan: a plan without refusals.
        want: what the plan leads to.

    Raises:
        CommitFailedException: somebody else was faster; nothing was changed.
    """
    transaction = native.transaction()
    _columns(transaction, plan, want)
    if plan.of("partition"):
        _partition(transaction, want.partition_by or ())
    if plan.of("sort"):
        _sort(transaction, want.order or ())
    if plan.of("drop"):
        # After the layout: it may have been laid out by a column that goes.
        with transaction.update_schema() as update:
            for name in plan.of("drop"):
                update.delete_column(name)
    _properties(transaction, plan, want)
    transaction.commit_transaction()


def _columns(transaction: Transaction, plan: TablePlan, want: Declared) -> None:
    with transaction.update_schema() as update:
        if plan.of("key"):
            # Before renaming: pyiceberg keeps names here, and would look for those of columns that go.
            update.set_identifier_fields()
        for name in plan.of("add"):
            field = want.schema.field(name)
            update.add_column(name, iceberg_type(field, want.name), doc=documentation(field))
        old = {name: want.renamed[name] for name in plan.of("rename")}
        for name in plan.of("widen"):
            update.update_column(old.get(name, name), iceberg_type(want.schema.field(name), want.name))
        for name in plan.of("relax"):
            update.make_column_optional(old.get(name, name))
        for name in plan.of("doc"):
            update.update_column(old.get(name, name), doc=documentation(want.schema.field(name)) or "")
        for name in plan.of("rename"):
            update.rename_column(old[name], name)
        if plan.of("key"):
            update.set_identifier_fields(*identifiers(want.schema, want.key or ()))


def _partition(transaction: Transaction, terms: tuple[Partitioning, ...]) -> None:
    schema: Schema = transaction.table_metadata.schema()
    wanted = {(schema.find_field(t.column).field_id, str(transform_of(t))): t for t in terms}
    present = transaction.table_metadata.spec().fields
    with transaction.update_spec() as update:
        for field in present:
            if (field.source_id, str(field.transform)) not in wanted:
                update.remove_field(field.name)
        have = {(field.source_id, str(field.transform)) for field in present}
        for place, term in wanted.items():
            if place not in have:
                update.add_field(term.column, transform_of(term), field_name(term))


def _sort(transaction: Transaction, order: tuple[tuple[str, bool], ...]) -> None:
    with transaction.update_sort_order() as update:
        for column, greatest_first in order:
            add = update.desc if greatest_first else update.asc
            add(column, IdentityTransform(), NullOrder.NULLS_LAST)


def _properties(transaction: Transaction, plan: TablePlan, want: Declared) -> None:
    given = want.properties or {}
    changed = [name for name in plan.of("property") if name in PROPERTIES]
    gone = [name for name in changed if name not in given]
    if gone:
        transaction.remove_properties(*gone)
    if len(changed) > len(gone):
        transaction.set_properties({name: given[name] for name in changed if name in given})
