"""The history of jobs: a row a job in the platform's database, which outlives every cluster.

Knows the table and its transactions; it does not know what a cluster says about a job.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from rayplat.cluster.jobs.record import ENDED, JobRecord, JobState, Needs
from rayplat.core.database import open_tables, reading, writing
from rayplat.core.errors import ConflictError, NotFoundError
from rayplat.core.settings import Settings

_LOCK = 0x6A6F_6273
_METADATA = sa.MetaData()
_JOBS = sa.Table(
    "cluster_jobs",
    _METADATA,
    sa.Column("submission_id", sa.String(255), primary_key=True),
    sa.Column("ray_job_id", sa.String(64), nullable=False),
    sa.Column("user_name", sa.String(255), nullable=False),
    sa.Column("team", sa.String(255), nullable=False),
    sa.Column("project", sa.String(255), nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("cpus", sa.Float, nullable=False),
    sa.Column("gpus", sa.Float, nullable=False),
    sa.Column("memory_gib", sa.Float, nullable=False),
    sa.Column("package", sa.String(64), nullable=False),
    sa.Column("packages", sa.String(16), nullable=False),
    sa.Column("runtime_digest", sa.String(64), nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("session", sa.String(255), nullable=False),
    sa.Column("submitted_at", sa.Float, nullable=False, index=True),  # seconds since 1970, as all times here
    sa.Column("started_at", sa.Float, nullable=True),
    sa.Column("ended_at", sa.Float, nullable=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("exit_code", sa.Integer, nullable=True),
    sa.Column("log", sa.Text, nullable=False),
    sa.Column("cost", sa.String(40), nullable=True),  # a decimal as text: it has to add up
    sa.Column("resumed_from", sa.String(255), nullable=False, index=True),
    sa.Column("settled", sa.Boolean, nullable=False, index=True),
)
_TIMES = ("submitted_at", "started_at", "ended_at")


class JobHistory:
    """The jobs of one platform. Safe for many processes; the database is opened at first use.

    Args:
        settings: `database` holds them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self.settings.database, _METADATA, _LOCK)

    def close(self) -> None:
        """Give the connections back; the next use opens them again."""
        if "_engine" in self.__dict__:
            self.__dict__.pop("_engine").dispose()

    def add(self, record: JobRecord) -> None:
        """Write a new job down.

        Raises:
            ConflictError: the id is taken, or the job that it resumes is being resumed already.
        """
        with writing(self._engine, _LOCK) as connection:
            if connection.execute(_one(record.submission_id)).first():
                raise ConflictError(f"there is a job {record.submission_id!r} already", "use another id")
            if record.resumed_from:
                others = sa.select(_JOBS.c.submission_id).where(
                    _JOBS.c.resumed_from == record.resumed_from,
                    _JOBS.c.status.not_in([str(s) for s in ENDED]),
                )
                if other := connection.execute(others).scalar():
                    raise ConflictError(
                        f"job {record.resumed_from} has been resumed already, as {other}",
                        f"follow it: rayplat jobs logs {other}",
                    )
            connection.execute(sa.insert(_JOBS), [_row(record)])

    def change(self, submission_id: str, decide: Callable[[JobRecord], JobRecord]) -> JobRecord:
        """Read a job, decide what it becomes, and write that, in one transaction.

        Raises:
            NotFoundError: there is no such job.
        """
        with writing(self._engine, _LOCK) as connection:
            row = connection.execute(_one(submission_id)).first()
            if row is None:
                raise _unknown(submission_id)
            before = _record(row)
            after = decide(before)
            if after != before:
                own = _JOBS.c.submission_id == submission_id
                connection.execute(sa.update(_JOBS).where(own).values(_row(after)))
            return after

    def remove(self, submission_id: str) -> None:
        """Forget a job that never reached a cluster."""
        with writing(self._engine, _LOCK) as connection:
            connection.execute(sa.delete(_JOBS).where(_JOBS.c.submission_id == submission_id))

    def get(self, submission_id: str) -> JobRecord:
        """One job.

        Raises:
            NotFoundError: there is no such job.
        """
        found = self.find(submission_id)
        if found is None:
            raise _unknown(submission_id)
        return found

    def find(self, submission_id: str) -> JobRecord | None:
        """One job, or None."""
        with reading(self._engine) as connection:
            row = connection.execute(_one(submission_id)).first()
        return None if row is None else _record(row)

    def newest(
        self, limit: int | None = None, *, team: str = "", project: str = "", status: str = ""
    ) -> list[JobRecord]:
        """The jobs, newest first; all, or those of a team, a project and/or a status."""
        query = sa.select(_JOBS).order_by(_JOBS.c.submitted_at.desc(), _JOBS.c.submission_id)
        for column, wanted in ((_JOBS.c.team, team), (_JOBS.c.project, project), (_JOBS.c.status, status)):
            query = query.where(column == wanted) if wanted else query
        return self._read(query.limit(limit))

    def unsettled(self) -> list[JobRecord]:
        """The jobs of which more can be learned, oldest first."""
        query = sa.select(_JOBS).where(_JOBS.c.settled.is_(False)).order_by(_JOBS.c.submitted_at)
        return self._read(query)

    def known(self, submission_ids: Iterable[str]) -> set[str]:
        """Those of some ids that are in the history."""
        wanted = list(submission_ids)
        with reading(self._engine) as connection:
            query = sa.select(_JOBS.c.submission_id).where(_JOBS.c.submission_id.in_(wanted))
            return set(connection.execute(query).scalars())

    def set_cost(self, submission_id: str, cost: Decimal) -> None:
        """Say what a job has cost so far.

        Raises:
            NotFoundError: there is no such job.
        """
        own = _JOBS.c.submission_id == submission_id
        with writing(self._engine, _LOCK) as connection:
            if not connection.execute(sa.update(_JOBS).where(own).values(cost=str(cost))).rowcount:
                raise _unknown(submission_id)

    def _read(self, query: sa.Select[Any]) -> list[JobRecord]:
        with reading(self._engine) as connection:
            return [_record(row) for row in connection.execute(query)]


def _one(submission_id: str) -> sa.Select[Any]:
    return sa.select(_JOBS).where(_JOBS.c.submission_id == submission_id)


def _unknown(submission_id: str) -> NotFoundError:
    return NotFoundError(f"there is no job {submission_id!r}", "`rayplat jobs list` shows them")


def _row(record: JobRecord) -> dict[str, Any]:
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    needs: Needs = row.pop("needs")
    row |= {"cpus": needs.cpus, "gpus": needs.gpus, "memory_gib": needs.memory_gib}
    row["user_name"] = row.pop("user")
    row["status"] = str(record.status)
    row["cost"] = None if record.cost is None else str(record.cost)
    for name in _TIMES:
        row[name] = row[name].timestamp() if row[name] else None
    return row


def _record(row: Any) -> JobRecord:
    values = dict(row._mapping)  # SQLAlchemy's name for a row as a mapping
    values["user"] = values.pop("user_name")
    values["status"] = JobState(values["status"])
    values["needs"] = Needs(**{name: values.pop(name) for name in ("cpus", "gpus", "memory_gib")})
    values["cost"] = None if values["cost"] is None else Decimal(values["cost"])
    for name in _TIMES:
        values[name] = datetime.fromtimestamp(values[name], UTC) if values[name] is not None else None
    return JobRecord(**values)
