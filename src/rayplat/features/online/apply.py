"""Source rows brought into the online store: as a materialization reads them, or as a stream brings them.

Knows the order of reading, working out and writing; it does not know where rows come from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from rayplat.core.errors import BugError
from rayplat.core.project.view import FeatureView
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.online import row_values, window_values
from rayplat.features.online.batch import batch
from rayplat.features.online.kept import encode_schema, kept
from rayplat.features.online.keys import entity_key, store_key
from rayplat.features.online.store import Change, OnlineStore, Progress, Reader
from rayplat.features.plan import Plan, plan


def write_rows(
    online: OnlineStore,
    prepared: Plan,
    source: pl.DataFrame,
    reached: Progress,
    *,
    expected: Progress | None,
    whole: bool = False,
) -> int:
    """Merge source rows into the online values of a view, together with the progress.

    Args:
        online: the store.
        prepared: the plan of the view.
        source: rows with the columns that `point_in_time.needed` takes; rows that came before may be among
            them, in any order.
        reached: the progress with these rows.
        expected: the progress before them.
        whole: whether these rows replace all others.

    Returns:
        how many entities were written.

    Raises:
        ConflictError: the view does not stand at `expected`, or another process writes it.
    """
    view = prepared.view
    if not isinstance(view, FeatureView):
        raise BugError(f"view {view.name!r} has no online values")
    found = kept(prepared, reached)
    rows = batch(view, source)

    def work(reader: Reader) -> dict[bytes, Change]:
        if prepared.windows:
            return window_values.changes(reader, found, rows)
        return row_values.changes(reader, found.key, prepared, found.layout, rows)

    made = work(_Nothing()) if whole else online.read(work)
    online.write(found.key, made, reached, expected=expected, replace=whole)
    return len(made)


def apply_rows(
    online: OnlineStore,
    views: Sequence[FeatureView],
    rows: pl.DataFrame,
    reached: Progress,
    expected: Mapping[str, Progress | None],
) -> dict[str, Progress]:
    """Bring rows that have just come into the online values of all views of their table.

    Args:
        online: the store.
        views: views of one source.
        rows: its new rows, with the columns that the views read and the system columns.
        reached: how far the source is read with them; its schema is not looked at.
        expected: by view, how far it had come before (see `progress_of`); `rows` must follow without a gap.

    Returns:
        by view, how far it has come.

    Raises:
        ConflictError: another process writes the same view; ask `progress_of` and materialize.
    """
    done = {}
    for view in views:
        prepared = plan(view)
        taken = rows.select([*prepared.columns, *(c for c in (PARTITION, OFFSET) if c in rows.columns)])
        progress = replace(reached, schema=encode_schema(taken))
        write_rows(online, prepared, taken, progress, expected=expected[view.name])
        done[view.name] = progress
    return done


def progress_of(online: OnlineStore, views: Sequence[FeatureView]) -> dict[str, Progress | None]:
    """How far each view has come; None: it was never materialized."""
    keys = {view.name: store_key(plan(view)) for view in views}
    return online.read(lambda reader: {name: reader.progress(key) for name, key in keys.items()})


def erase(online: OnlineStore, views: Sequence[FeatureView], keys: Mapping[str, object]) -> list[str]:
    """Remove an entity from the online values, under every definition that a view ever had.

    Args:
        online: the store.
        views: the views; those whose entity is not named by `keys` are left alone.
        keys: the entity: values by column.

    Returns:
        the names under which something was removed.
    """
    removed = []
    stored = online.views()
    for view in views:
        if set(view.entity) <= set(keys):
            entity = entity_key([keys[column] for column in view.entity])
            mine = [name for name in stored if name.rpartition("@")[0] == view.kept_as]
            removed += [name for name in mine if online.delete_entity(name, entity)]
    return list(dict.fromkeys(removed))


class _Nothing:
    """A reader of a store that holds nothing: for rows that replace all others."""

    def progress(self, view: str) -> None:
        return None

    def heads(self, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
        return [None] * len(entities)

    def parts(self, view: str, wanted: Sequence[object]) -> list[list[tuple[bytes, bytes]]]:
        return [[] for _ in wanted]
