"""The line of those whose team is over its quota: who waits, for what, since when and why.

Knows the table and the turn (first come, first served within a team); it does not know what a quota is.
Who waits says so every few seconds: one that was killed is forgotten, and nobody waits behind it.
"""

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Self

import sqlalchemy as sa

from rayplat.cluster.jobs.quota import as_resources
from rayplat.cluster.jobs.request import Admission, Admit, JobRequest, OverQuota
from rayplat.core.database import open_tables, reading, writing
from rayplat.core.settings import Settings

AGAIN_S = 2.0
"""The door is asked again so often."""

FORGOTTEN_S = 15.0
"""Who has said nothing for so long does not wait any more."""

_LOCK = 0x7261_7908
_METADATA = sa.MetaData()
_LINE = sa.Table(
    "cluster_job_line",
    _METADATA,
    sa.Column("waiter", sa.String(32), primary_key=True),
    sa.Column("team", sa.String(64), nullable=False),
    sa.Column("user", sa.String(64), nullable=False),
    sa.Column("resources", sa.Text, nullable=False),
    sa.Column("since", sa.Float, nullable=False),  # seconds since 1970, as all times here
    sa.Column("seen", sa.Float, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits; `resources` by Ray's names."""

    waiter: str
    team: str
    user: str
    resources: dict[str, float]
    since: datetime
    why: str


class Line:
    """The line of one platform. Safe for many processes. Use it in a `with`.

    Args:
        settings: `database` holds it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self.settings.database, _METADATA, _LOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "_engine" in self.__dict__:
            self.__dict__.pop("_engine").dispose()

    def stand(self, waiter: Waiter, now: datetime) -> None:
        """Say that somebody waits, or still does."""
        values = {
            "team": waiter.team,
            "user": waiter.user,
            "resources": json.dumps(waiter.resources, sort_keys=True),
            "since": waiter.since.timestamp(),
            "seen": now.timestamp(),
            "why": waiter.why,
        }
        this = _LINE.c.waiter == waiter.waiter
        with writing(self._engine, _LOCK) as connection:
            if not connection.execute(sa.update(_LINE).where(this).values(values)).rowcount:
                connection.execute(sa.insert(_LINE), [{"waiter": waiter.waiter, **values}])

    def leave(self, waiter: str) -> None:
        """Somebody waits no more."""
        with writing(self._engine, _LOCK) as connection:
            connection.execute(sa.delete(_LINE).where(_LINE.c.waiter == waiter))

    def waiting(self, now: datetime) -> list[Waiter]:
        """Everybody who waits, first come first."""
        alive = _LINE.c.seen >= now.timestamp() - FORGOTTEN_S
        query = sa.select(_LINE).where(alive).order_by(_LINE.c.since, _LINE.c.waiter)
        with reading(self._engine) as connection:
            return [
                Waiter(r.waiter, r.team, r.user, json.loads(r.resources), _time(r.since), r.why)
                for r in connection.execute(query)
            ]


def in_line(
    settings: Settings,
    request: JobRequest,
    admit: Admit,
    tell: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
) -> Admission:
    """Wait until the team has room for a request and its turn has come; what the door says then.

    Any other refusal, such as a budget's, ends the waiting.

    Args:
        tell: is told once, and again when the reason changes.
    """
    since, told = datetime.now(UTC), ""
    name = secrets.token_hex(8)
    resources = {k: v for k, v in as_resources(request.needs).items() if v}
    with Line(settings) as line:
        try:
            while True:
                decision = admit(request)
                before = [] if isinstance(decision, OverQuota) else _before(line, name, request.team, since)
                if not isinstance(decision, OverQuota) and not before:
                    return decision
                why = decision.why if isinstance(decision, OverQuota) else f"behind {len(before)} of its team"
                why = f"over a quota: {why}"
                if why != told:
                    tell(f"waits: {why}")
                    told = why
                waiter = Waiter(name, request.team, request.user, resources, since, why)
                line.stand(waiter, datetime.now(UTC))
                pause(AGAIN_S)
        finally:
            line.leave(name)


def _before(line: Line, name: str, team: str, since: datetime) -> list[Waiter]:
    others = [w for w in line.waiting(datetime.now(UTC)) if w.team == team and w.waiter != name]
    return [w for w in others if (w.since, w.waiter) < (since, name)]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
