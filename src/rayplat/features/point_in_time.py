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

from rayplat.core.errors import UserError
from rayplat.core.project.view import FeatureView
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import Int64s, asked_at
from rayplat.features.latest import choose, transform
from rayplat.features.plan import Plan, plan
from rayplat.features.questions import Questions, ask, number_entities
from rayplat.features.timeline import Timeline, timeline
from rayplat.features.windows import aggregate


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


def join(rows: pl.DataFrame, at: str, view: FeatureView, source: pl.DataFrame) -> pl.DataFrame:
    """Append a view's features to asking rows.

    Args:
        rows: the asking rows, with the view's entity columns and `at`; order and number are kept.
        at: the column of `rows` with the time of the question (UTC).
        view: the view.
        source: rows of the view's source, with the columns that `definition.source_columns` names and,
            where the table has them, the system columns.

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
    questions = ask(held, rows, view.entity, asked_at(rows, at))
    return rows.hstack(answer(prepared, held, number_entities(held, view.entity), questions).features)


def answer(prepared: Plan, source: pl.DataFrame, source_code: Int64s, questions: Questions) -> Answer:
    """Answer questions that are numbered already.

    Args:
        prepared: the plan of a feature view.
        source: the rows that may answer.
        source_code: the entity of each source row; -1: none.
        questions: the questions.
    """
    line = timeline(source, prepared.view.source, source_code)
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
            f"the rows of {prepared.view.source.name!r} lack {missing}, "
            f"which view {prepared.view.name!r} reads",
            f"they have: {', '.join(source.columns)}",
        )
    return source.select([*prepared.columns, *(c for c in (PARTITION, OFFSET) if c in source.columns)])
