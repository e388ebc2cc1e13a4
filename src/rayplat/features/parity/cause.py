"""Why a served value differs: worlds in which one thing is otherwise, until one gives what was served.

Knows the faults that an online path can have and how each would look; it does not know where rows and
vectors come from. Each hypothesis is a set of source rows; the engine answers all of them in one join.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from rayplat.core.project.view import FeatureView
from rayplat.core.project.window import WindowAggregate
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.derived import with_defaults
from rayplat.features.parity.compare import differing
from rayplat.features.parity.recompute import AT
from rayplat.features.parity.report import Cause, Kind
from rayplat.features.plan import plan
from rayplat.features.point_in_time import join

_AT_MOST = 48
"""How many rows are doubted one by one."""

_PAIRED = 12
"""How many rows are doubted in pairs."""

_CASE, _WHEN = "__case", "__when"
"""Columns of a hypothesis. Arrow, through which large joins go, takes no name with a zero byte."""


@dataclass(frozen=True, slots=True)
class Case:
    """One served vector of one view that differs.

    Attributes:
        view: the view as it is defined now.
        at: the time of the question.
        rows: the rows of the entity in the source, with the column `had`: whether the store had consumed it.
        served: one row: the served values, with the types that the view gives.
        digest: of the definition when it was served; None: not logged.
        given: whether the row that should answer has answered another question of the log.
    """

    view: FeatureView
    at: datetime
    rows: pl.DataFrame
    served: pl.DataFrame
    digest: str | None = None
    given: bool = False


@dataclass(frozen=True, slots=True)
class _World:
    """A hypothesis: the rows that would be there, and the cause if they give what was served."""

    rows: pl.DataFrame
    cause: Cause
    view: FeatureView | None = None


def explain(case: Case) -> dict[str, Cause]:
    """The first cause for each served feature that differs.

    A hypothesis that explains the whole vector is preferred to one that explains the feature alone.
    """
    view = case.view
    seen = _seen(case)
    now = _answers(case, [_World(seen, Cause(Kind.VALUE, ""))])
    differs = [n for n in case.served.columns if differing(case.served[n], now[n])[0]]
    if case.digest is not None and case.digest != plan(view).digest:
        text = f"served with definition {case.digest[:12]}, made anew with {plan(view).digest[:12]}"
        return dict.fromkeys(differs, Cause(Kind.DEFINITION, text))
    worlds = list(_worlds(case, seen))
    matches = _matches(case, worlds)
    whole = next((w.cause for w, ok in zip(worlds, _all(matches, len(worlds)), strict=True) if ok), None)
    found = {}
    for name in differs:
        alone = next((w.cause for w, ok in zip(worlds, matches[name], strict=True) if ok), None)
        found[name] = whole or alone or Cause(Kind.VALUE, _same_rows(case, seen))
    return found


def _all(matches: Mapping[str, list[bool]], worlds: int) -> list[bool]:
    return [all(column[i] for column in matches.values()) for i in range(worlds)]


def _matches(case: Case, worlds: list[_World]) -> dict[str, list[bool]]:
    """By feature, which worlds give what was served."""
    if not worlds:
        return {name: [] for name in case.served.columns}
    answers = _answers(case, worlds)
    found = {}
    for name in case.served.columns:
        served = case.served.get_column(name).gather([0] * len(worlds))
        found[name] = (~differing(served, answers.get_column(name).cast(served.dtype))).tolist()
    return found


def _answers(case: Case, worlds: list[_World]) -> pl.DataFrame:
    """One row a world, in order; a world may have a view of its own."""
    parts = []
    by_view: dict[int, list[int]] = {}
    for i, world in enumerate(worlds):
        by_view.setdefault(id(world.view), []).append(i)
    for places in by_view.values():
        view = worlds[places[0]].view or case.view
        alone = replace(
            view,
            entity=(_CASE,),
            join_keys={},
            required=(),
            defaults={},
            source=replace(view.source, known_at=_known(view)),
        )
        rows = pl.concat([worlds[i].rows.with_columns(pl.lit(i, pl.Int64).alias(_CASE)) for i in places])
        asks = pl.DataFrame({_CASE: places, AT: [case.at] * len(places)})
        answered = with_defaults(join(asks, AT, alone, rows).select(view.names), view)
        parts.append(answered.with_columns(asks.get_column(_CASE)))
    return pl.concat(parts, how="vertical_relaxed").sort(_CASE)


def _known(view: FeatureView) -> str | None:
    return None if view.source.told_by is None else _WHEN


def _seen(case: Case) -> pl.DataFrame:
    """The rows that should be in the answer, as far as the windows reach; the newest last."""
    rows = _timed(case).filter(pl.col("had") & _in_time(case, event=True, known=True))
    return _near(case, rows)


def _timed(case: Case) -> pl.DataFrame:
    """The rows with the known time in a column of its own, so that a hypothesis can change it."""
    told = case.view.source.told_by
    return case.rows if told is None else case.rows.with_columns(pl.col(told).alias(_WHEN))


def _in_time(case: Case, *, event: bool, known: bool) -> pl.Expr:
    """Whether a row's event, and its becoming known, are (not) later than the question."""
    when = case.view.source.event_time
    happened = pl.lit(True) if when is None else pl.col(when) <= case.at
    told = pl.lit(True) if case.view.source.told_by is None else pl.col(_WHEN) <= case.at
    return (happened if event else ~happened) & (told if known else ~told)


def _near(case: Case, rows: pl.DataFrame) -> pl.DataFrame:
    when = case.view.source.event_time
    order = [c for c in (when, _WHEN, OFFSET, PARTITION) if c is not None and c in rows.columns]
    ordered = rows.sort(order) if order else rows
    if case.view.windowed and when is not None:
        return ordered.filter(pl.col(when) > case.at - timedelta(microseconds=plan(case.view).reach_us))
    return ordered.tail(_AT_MOST)


def _worlds(case: Case, seen: pl.DataFrame) -> Iterator[_World]:
    yield from _rules(case, seen)
    yield from _less(seen)
    yield from _more(case, seen)
    yield from _parts(case, seen)


def _rules(case: Case, seen: pl.DataFrame) -> Iterator[_World]:
    """The same rows under another rule."""
    view = case.view
    if view.defaults:
        cause = Cause(Kind.RULE, f"the defaults {dict(view.defaults)} of {view.name!r} were not applied")
        yield _World(seen, cause, replace(view, defaults={}))
    unfiltered = {
        name: replace(f, window=replace(f.window, where=None)) if isinstance(f, WindowAggregate) else f
        for name, f in view.features.items()
    }
    if any(isinstance(f, WindowAggregate) and f.window.where is not None for f in view.features.values()):
        cause = Cause(Kind.VALUE, f"the filters of the windows of {view.name!r} were not applied")
        yield _World(seen, cause, replace(view, features=unfiltered))
    if view.ttl is None or seen.is_empty():
        return
    last = seen.tail(1)
    age = case.at - last.get_column(str(view.source.event_time))[0]
    told = f"{_name(last)} is {age} old, and the ttl is {view.ttl}"
    yield _World(
        seen, Cause(Kind.RULE, f"{told}: it answered all the same", *_place(last)), replace(view, ttl=None)
    )
    if age <= view.ttl and case.given:
        yield _World(seen.clear(), Cause(Kind.RULE, f"{told}: it did not answer", *_place(last)))


def _less(seen: pl.DataFrame) -> Iterator[_World]:
    """One row less, or one row twice."""
    for i in range(seen.height - 1, max(-1, seen.height - 1 - _AT_MOST), -1):
        row = seen.slice(i, 1)
        text = f"{_name(row)} was consumed and known, and is not in the answer"
        yield _World(
            pl.concat([seen.slice(0, i), seen.slice(i + 1)]), Cause(Kind.MISSING, text, *_place(row))
        )
    for i in range(seen.height - 1, max(-1, seen.height - 1 - _AT_MOST), -1):
        row = seen.slice(i, 1)
        yield _World(pl.concat([seen, row]), Cause(Kind.EXTRA, f"{_name(row)} counts twice", *_place(row)))


def _more(case: Case, seen: pl.DataFrame) -> Iterator[_World]:
    """One row more, or all of a sort: not consumed, not known yet, not happened yet, too old."""
    rows = _timed(case)
    asked = case.at.astimezone(UTC).isoformat()
    sorts = [
        (rows.filter(~pl.col("had") & _in_time(case, event=True, known=True)), "was not consumed yet"),
        (rows.filter(_in_time(case, event=True, known=False)), f"was not known at {asked}"),
        (rows.filter(_in_time(case, event=False, known=False)), f"had not happened at {asked}"),
        (rows.filter(_in_time(case, event=False, known=True)), f"had not happened at {asked}"),
    ]
    when = case.view.source.event_time
    if case.view.windowed and when is not None:
        past = rows.filter(pl.col("had") & _in_time(case, event=True, known=True)).sort(when)
        sorts.append((past.join(seen, on=_rank(seen), how="anti").tail(_AT_MOST), "is older than the window"))
    for extra, why in sorts:
        moved = _moved(case, extra.head(_AT_MOST) if why != "is older than the window" else extra)
        for i in range(moved.height):
            row = extra.slice(i, 1)
            cause = Cause(Kind.EXTRA, f"{_name(row)} {why}, and is in the answer", *_place(row))
            yield _World(pl.concat([seen, moved.slice(i, 1)]), cause)
        if extra.height > 1:
            cause = Cause(
                Kind.EXTRA, f"{extra.height} rows from {_name(extra)} on: each {why}", *_place(extra)
            )
            yield _World(pl.concat([seen, _moved(case, extra)]), cause)


def _rank(rows: pl.DataFrame) -> list[str]:
    system = [c for c in (PARTITION, OFFSET) if c in rows.columns]
    return system or [c for c in rows.columns if c != "had"]


def _moved(case: Case, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows brought to where the question sees them."""
    when, told = case.view.source.event_time, case.view.source.told_by
    at = pl.lit(case.at).cast(pl.Datetime("us", "UTC"))
    moved = rows
    if when is not None:
        reach = timedelta(microseconds=plan(case.view).reach_us)
        old = (pl.col(when) <= at - reach) if case.view.windowed else pl.lit(False)
        moved = moved.with_columns(pl.when(old | (pl.col(when) > at)).then(at).otherwise(when).alias(when))
    if told is not None:
        moved = moved.with_columns(pl.min_horizontal(pl.col(_WHEN), at).alias(_WHEN))
    return moved


def _parts(case: Case, seen: pl.DataFrame) -> Iterator[_World]:
    """Many rows less: the late ones, those told twice, or all from one offset on."""
    when, told = case.view.source.event_time, case.view.source.told_by
    if when is not None and told is not None and told != when:
        late = seen.filter(pl.col(_WHEN) > pl.col(when))
        if late.height > 1:
            text = f"all {late.height} late rows are missing, the first {_name(late)}"
            yield _World(
                seen.filter(~(pl.col(_WHEN) > pl.col(when))), Cause(Kind.MISSING, text, *_place(late))
            )
    own = [c for c in seen.columns if c not in (PARTITION, OFFSET, "had")]
    again = seen.filter(~pl.struct(own).is_first_distinct()) if own else seen.clear()
    if again.height > 1:
        text = f"{again.height} rows that were told again, the first {_name(again)}, "
        once = seen.filter(pl.struct(own).is_first_distinct())
        yield _World(once, Cause(Kind.MISSING, f"{text}are missing", *_place(again)))
        yield _World(pl.concat([seen, again]), Cause(Kind.EXTRA, f"{text}count twice", *_place(again)))
    if OFFSET in seen.columns:
        yield from _cut(seen)
    if case.view.windowed:
        yield from _pairs(seen)


def _pairs(seen: pl.DataFrame) -> Iterator[_World]:
    """Two rows missing, or two rows twice."""
    first = max(0, seen.height - _PAIRED)
    for i, j in itertools.combinations(range(seen.height - 1, first - 1, -1), 2):
        two = pl.concat([seen.slice(j, 1), seen.slice(i, 1)])
        name = f"{_name(two.slice(0, 1))} and {_name(two.slice(1, 1))}"
        rest = pl.concat([seen.slice(0, j), seen.slice(j + 1, i - j - 1), seen.slice(i + 1)])
        missing = f"{name} were consumed and known, and are not in the answer"
        yield _World(rest, Cause(Kind.MISSING, missing, *_place(two)))
        yield _World(pl.concat([seen, two]), Cause(Kind.EXTRA, f"{name} count twice", *_place(two)))


def _cut(seen: pl.DataFrame) -> Iterator[_World]:
    """All rows of a partition from an offset on missing, or consumed twice."""
    for (partition,), rows in seen.sort(OFFSET).group_by([PARTITION], maintain_order=True):
        for offset in rows.get_column(OFFSET).tail(_AT_MOST).to_list()[::-1]:
            after = (pl.col(PARTITION) == partition) & (pl.col(OFFSET) >= offset)
            name = f"all rows of partition {partition} from offset {offset} on"
            place = (int(str(partition)), offset)
            yield _World(seen.filter(~after), Cause(Kind.MISSING, f"{name} are missing", *place))
            yield _World(
                pl.concat([seen, seen.filter(after)]), Cause(Kind.EXTRA, f"{name} count twice", *place)
            )


def _same_rows(case: Case, seen: pl.DataFrame) -> str:
    what = f"{seen.height} rows" if case.view.windowed else _name(seen.tail(1)) if seen.height else "no row"
    return f"{what}: no row more, less or twice, and no ttl or default, gives what was served"


def _place(row: pl.DataFrame) -> tuple[int | None, int | None]:
    if OFFSET not in row.columns or row.is_empty():
        return None, None
    return int(row.get_column(PARTITION)[0]), int(row.get_column(OFFSET)[0])


def _name(row: pl.DataFrame) -> str:
    partition, offset = _place(row)
    if offset is not None:
        return f"offset {offset} of partition {partition}"
    shown: dict[str, Any] = {c: v for c, v in row.row(0, named=True).items() if c not in (_WHEN, "had")}
    return f"the row {shown}"
