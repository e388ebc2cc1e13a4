"""The durable record of a study: its trials, what they reported, and what it has cost.

Knows the tables and that what has happened since the last commit becomes durable in one; it does not
know why a trial is run or stopped.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from rayplat.core.database import ensure_tables, open_database, open_tables, reading, writing
from rayplat.core.errors import ConflictError, NotFoundError, UserError
from rayplat.core.project.space import Space
from rayplat.tuning.caps import Spent
from rayplat.tuning.spaces import described, differences
from rayplat.tuning.trial import Ended, Report

_LOCK = 0x7475_6E65
RUNNING, COMPLETE, STOPPED, FAILED = "running", "complete", "stopped", "failed"

_METADATA = sa.MetaData()
_STUDIES = sa.Table(
    "rayplat_studies",
    _METADATA,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("model", sa.String(255), nullable=False, index=True),
    sa.Column("objectives", sa.Text, nullable=False),
    sa.Column("sitting", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("dollars", sa.Float, nullable=False),
)
_TRIALS = sa.Table(
    "rayplat_trials",
    _METADATA,
    sa.Column("study", sa.String(255), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("params", sa.Text, nullable=False),
    sa.Column("result", sa.Text),
    sa.Column("seconds", sa.Float, nullable=False, default=0.0),
    sa.Column("error", sa.Text, nullable=False, default=""),
)
_REPORTS = sa.Table(
    "rayplat_trial_reports",
    _METADATA,
    sa.Column("study", sa.String(255), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("value", sa.Float),  # null: not a number
)


_SPACES = sa.Table(
    "rayplat_study_spaces",
    _METADATA,
    sa.Column("study", sa.String(255), primary_key=True),
    sa.Column("space", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Objective:
    """What is measured of a trial, and which way is better."""

    name: str
    higher_is_better: bool = False


@dataclass(frozen=True, slots=True)
class KeptTrial:
    """A trial as it is recorded."""

    number: int
    state: str
    params: Mapping[str, Any]
    values: tuple[float, ...] = ()
    seconds: float = 0.0
    error: str = ""
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptStudy:
    """A study as it is recorded."""

    name: str
    model: str
    objectives: tuple[Objective, ...]
    spent: Spent
    trials: tuple[KeptTrial, ...] = field(default=())


class Journal:
    """One study's record, written by one driver at a time.

    Args:
        database: `sqlite:///…` or `postgresql://…`.
        study: its name.
        model: what it tunes; a new study may begin with what earlier ones of the same model found.
        space: what is searched; a study keeps it.
    """

    def __init__(
        self,
        database: str,
        study: str,
        model: str,
        objectives: Sequence[Objective],
        space: Space | None = None,
    ) -> None:
        self._database, self.study, self.model = database, study, model
        self.objectives, self._space = tuple(objectives), space
        self._sitting = 0

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self._database, _METADATA, _LOCK)

    def close(self) -> None:
        """Give the connections back."""
        if "_engine" in self.__dict__:
            self.__dict__.pop("_engine").dispose()

    def open(self) -> KeptStudy:
        """Begin a sitting over the study, which is made where it is new; an older driver can no longer write.

        Raises:
            UserError: the study exists with another model, other objectives or another space.
        """
        told = json.dumps([[o.name, o.higher_is_better] for o in self.objectives])
        with writing(self._engine, _LOCK) as connection:
            row = connection.execute(sa.select(_STUDIES).where(_STUDIES.c.name == self.study)).one_or_none()
            if row is None:
                connection.execute(
                    sa.insert(_STUDIES).values(
                        name=self.study,
                        model=self.model,
                        objectives=told,
                        sitting=1,
                        seconds=0.0,
                        dollars=0.0,
                    )
                )
                self._sitting = 1
                self._keep_space(connection)
                return KeptStudy(self.study, self.model, self.objectives, Spent())
            if (row.model, row.objectives) != (self.model, told):
                raise UserError(
                    f"study {self.study!r} tunes {row.model!r} for {row.objectives}, "
                    f"not {self.model!r} for {told}",
                    "give the study another name",
                )
            self._keep_space(connection)
            self._sitting = row.sitting + 1
            connection.execute(
                sa.update(_STUDIES).where(_STUDIES.c.name == self.study).values(sitting=self._sitting)
            )
            return _read(connection, row)

    def _keep_space(self, connection: sa.Connection) -> None:
        if self._space is None:
            return
        query = sa.select(_SPACES.c.space).where(_SPACES.c.study == self.study)
        kept, given = connection.execute(query).scalar_one_or_none(), described(self._space)
        if kept is None:
            connection.execute(sa.insert(_SPACES).values(study=self.study, space=json.dumps(given)))
        elif json.loads(kept) != given:
            raise UserError(
                f"study {self.study!r} searches another space: {differences(json.loads(kept), given)}",
                "give the study another name (`--warm` learns from this one), or restore the space",
            )

    def commit(
        self,
        spent: Spent,
        *,
        started: Mapping[int, Mapping[str, Any]],
        reports: Iterable[tuple[int, Report]],
        ended: Iterable[Ended],
        resumed: Iterable[int] = (),
    ) -> None:
        """Make all of it durable at once.

        Raises:
            ConflictError: another driver has begun a sitting over this study.
        """
        rows, ends = _report_rows(self.study, reports), _end_rows(ended)
        begun = _begun_rows(self.study, started)
        with writing(self._engine, _LOCK) as connection:
            changed = connection.execute(
                sa.update(_STUDIES)
                .where(_STUDIES.c.name == self.study, _STUDIES.c.sitting == self._sitting)
                .values(seconds=spent.seconds, dollars=spent.dollars)
            )
            if changed.rowcount != 1:
                raise ConflictError(
                    f"another driver has taken over study {self.study!r}", "let that one go on"
                )
            if begun:
                connection.execute(sa.insert(_TRIALS), begun)
            if rows:
                _keep_reports(connection, rows)
            if ends:
                _keep_ends(connection, self.study, ends)
            again = [{"n": number} for number in resumed]
            if again:
                connection.execute(
                    sa.update(_TRIALS)
                    .where(_TRIALS.c.study == self.study, _TRIALS.c.number == sa.bindparam("n"))
                    .values(state=RUNNING),
                    again,
                )

    def earlier(self) -> list[KeptStudy]:
        """The other studies of the same model."""
        return [s for s in studies(self._engine, self.model) if s.name != self.study]


def _report_rows(study: str, reports: Iterable[tuple[int, Report]]) -> list[dict[str, Any]]:
    return [
        {"study": study, "number": n, "step": step, "value": None if math.isnan(value) else value}
        for n, (step, value) in reports
    ]


def _end_rows(ended: Iterable[Ended]) -> list[dict[str, Any]]:
    return [
        {
            "n": e.number,
            "new_state": e.state,
            "new_result": json.dumps(e.values),
            "new_seconds": e.seconds,
            "new_error": e.error[:2000],
        }
        for e in ended
    ]


def _begun_rows(study: str, started: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    begun = {"study": study, "state": RUNNING, "seconds": 0.0, "error": ""}
    return [{**begun, "number": n, "params": json.dumps(p)} for n, p in started.items()]


def _keep_reports(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    # A trial whose driver was killed is run again, and reports its steps again.
    connection.execute(
        sa.delete(_REPORTS).where(
            _REPORTS.c.study == sa.bindparam("study_"),
            _REPORTS.c.number == sa.bindparam("number_"),
            _REPORTS.c.step == sa.bindparam("step_"),
        ),
        [{f"{k}_": row[k] for k in ("study", "number", "step")} for row in rows],
    )
    connection.execute(sa.insert(_REPORTS), rows)


def _keep_ends(connection: sa.Connection, study: str, ends: list[dict[str, Any]]) -> None:
    connection.execute(
        sa.update(_TRIALS)
        .where(_TRIALS.c.study == study, _TRIALS.c.number == sa.bindparam("n"))
        .values(
            state=sa.bindparam("new_state"),
            result=sa.bindparam("new_result"),
            seconds=_TRIALS.c.seconds + sa.bindparam("new_seconds"),  # of each time that it ran
            error=sa.bindparam("new_error"),
        ),
        ends,
    )


def read_study(database: str, name: str) -> KeptStudy:
    """A study with its trials and their reports.

    Raises:
        NotFoundError: there is none of this name.
    """
    engine = open_database(database)
    try:
        ensure_tables(engine, _METADATA, _LOCK)
        with reading(engine) as connection:
            row = connection.execute(sa.select(_STUDIES).where(_STUDIES.c.name == name)).one_or_none()
            if row is None:
                raise NotFoundError(f"there is no study {name!r}", "list them with `rayplat tune list`")
            return _read(connection, row)
    finally:
        engine.dispose()


def list_studies(database: str) -> list[KeptStudy]:
    """All studies, with their trials."""
    engine = open_database(database)
    try:
        ensure_tables(engine, _METADATA, _LOCK)
        return studies(engine, None)
    finally:
        engine.dispose()


def studies(engine: sa.Engine, model: str | None) -> list[KeptStudy]:
    """The studies of a model, or all of them, by name."""
    query = sa.select(_STUDIES).order_by(_STUDIES.c.name)
    with reading(engine) as connection:
        found = connection.execute(query if model is None else query.where(_STUDIES.c.model == model)).all()
        return [_read(connection, row) for row in found]


def _read(connection: sa.Connection, row: Any) -> KeptStudy:
    reports: dict[int, list[Report]] = {}
    for number, step, value in connection.execute(
        sa.select(_REPORTS.c.number, _REPORTS.c.step, _REPORTS.c.value)
        .where(_REPORTS.c.study == row.name)
        .order_by(_REPORTS.c.number, _REPORTS.c.step)
    ):
        reports.setdefault(number, []).append((step, float("nan") if value is None else value))
    trials = [
        KeptTrial(
            t.number,
            t.state,
            json.loads(t.params),
            tuple(json.loads(t.result)) if t.result else (),
            t.seconds,
            t.error,
            tuple(reports.get(t.number, ())),
        )
        for t in connection.execute(
            sa.select(_TRIALS).where(_TRIALS.c.study == row.name).order_by(_TRIALS.c.number)
        )
    ]
    objectives = tuple(Objective(name, bool(high)) for name, high in json.loads(row.objectives))
    spent = replace(Spent(), trials=len(trials), seconds=row.seconds, dollars=row.dollars)
    return KeptStudy(row.name, row.model, objectives, spent, tuple(trials))
