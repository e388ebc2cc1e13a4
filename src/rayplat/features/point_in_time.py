"""The point-in-time join: what was known of an entity at the time of each asking row.

Knows the whole semantics of a feature view, and is the only code that evaluates one: for training sets
over the lakehouse, and for requests over the online store. It does not know where rows come from.

Semantics:
- A source row is visible at `at` when event_time <= at and known_at <= at (known_at is the event time
  where it is not declared; a table without times is visible always). A row at exactly `at` is visible.
- Row transforms: of the visible rows of the entity the one with the greatest event time answers; ties go
  to the latest known, then to the last offset, then to the last partition. It answers while
  at - event_time <= ttl.
- Windows: over visible rows with an event time in (at - length, at].
- Nulls: an asking row with a null entity key gets null. An entity never seen gets null from row
  transforms and an empty window from windows. Source rows with a null key or time are never seen.
"""

from dataclasses import dataclass

import polars as pl

from rayplat.core.errors import BugError, UserError
from rayplat.core.project.view import FeatureView
from rayplat.core.project.window import KINDS
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.derived import with_defaults
from rayplat.features.instants import Int64s, asked_at
from rayplat.features.latest import choose, transform
from rayplat.features.plan import Plan, plan
from rayplat.features.questions import Questions, ask, keys_as, number_entities
from rayplat.features.timeline import Timeline, timeline
from rayplat.features.windows.aggregate import aggregate

FEW = 50_000
"""Up to so many rows and questions, sorting them costs less than loading the compiled join."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a view answers to a batch of questions.

    Attributes:
        features: one row a question, the view's names as columns.
        chosen: for each question the position in `line` of the row that answered, or of the newest row in
            the longest window; -1 where there was none.
        line: the source rows, sorted.
    """

    features: pl.DataFrame
    chosen: Int64s
    line: Timeline


def join(
    rows: pl.DataFrame, at: str, view: FeatureView, source: pl.DataFrame, *, few: int = FEW
) -> pl.DataFrame:
    """Append a view's features to asking rows.

    Args:
        rows: the asking rows, with the view's entity columns and `at`; order and number are kept.
        at: the column of `rows` with the time of the question (UTC).
        view: the view.
        source: rows of the view's source, with the columns that `definition.source_columns` names and,
            where the table has them, the system columns.
        few: up to so many rows are sorted; more are streamed (see `join.stream`), or of windows cut in blocks
            (see `windows.unsorted`), with the same answers.

    Raises:
        UserError: a column is missing or of the wrong kind, or the definition cannot be trusted.
    """
    taken = [name for name in view.names if name in rows.columns]
    if taken:
        raise UserError(
            f"the asking rows have columns {taken} already", f"drop them, or rename view {view.name!r}"
        )
    prepared = plan(view)
    held = needed(source, prepared)
    if rows.height + held.height > few:
        if not prepared.windows:
            return rows.hstack(_streamed(prepared, rows, at, held))
        if all(feature.kind in KINDS for feature in prepared.windows):
            # Imported here: kernels are loaded only by who has many rows.
            from rayplat.features.windows.unsorted import features

            asking = keys_as(held.select(view.entity).schema, rows, view.asks)
            return rows.hstack(with_defaults(features(prepared, held, asking, asked_at(rows, at)), view))
    questions = ask(held, rows, view.entity, asked_at(rows, at), view.asks)
    found = answer(prepared, held, number_entities(held, view.entity), questions).features
    return rows.hstack(with_defaults(found, view))


def _streamed(prepared: Plan, rows: pl.DataFrame, at: str, held: pl.DataFrame) -> pl.DataFrame:
    # Imported here: kernels are loaded only by who has many rows.
    from rayplat.features.join.parts import parts_of
    from rayplat.features.join.stream import Asking, Source, features

    view = prepared.view
    if not isinstance(view, FeatureView):
        raise BugError(f"view {view.name!r} has no table, and no rows that could answer")
    schema = held.to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    source = Source(view.source, schema, parts_of(held))
    asking = Asking(keys_as(held.select(view.entity).schema, rows, view.asks), asked_at(rows, at))
    return features([prepared], source, asking)[0]


def answer(prepared: Plan, source: pl.DataFrame, source_code: Int64s, questions: Questions) -> Answer:
    """Answer questions that are numbered already.

    Args:
        prepared: the plan of a feature view.
        source: the rows that may answer.
        source_code: the entity of each source row; -1: none.
        questions: the questions.
    """
    table = prepared.view.source
    if table is None:
        raise BugError(f"view {prepared.view.name!r} has no table, and no rows that could answer")
    line = timeline(source, table, source_code)
    if prepared.windows:
        features, chosen = aggregate(prepared, line, questions)
    else:
        chosen = choose(line, questions.code, questions.at, prepared.ttl_us)
        features = transform(prepared, line, chosen)
    return Answer(features, chosen, line)


def needed(source: pl.DataFrame, prepared: Plan) -> pl.DataFrame:
    """The columns of the source that a view needs, with the system columns that there are.

    Raises:
        UserError: a column is missing.
    """
    missing = [c for c in prepared.columns if c not in source.columns]
    if missing:
        raise UserError(
            f"the rows lack {missing}, which view {prepared.view.name!r} reads of its source",
            f"they have: {', '.join(source.columns)}",
        )
    return source.select([*prepared.columns, *(c for c in (PARTITION, OFFSET) if c in source.columns)])
