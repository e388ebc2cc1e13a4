"""The ledger: closed hours of the meter in the database, to which entries are only ever added.

Knows the tables and that an hour is booked whole or not at all; it does not know how the meter splits.
An hour that is settled again gets no entry if nothing changed; where facts came late, it gets
corrections, so that its entries add up to what the facts say now. Prices are kept with the moment from
which they hold: an edit of the cluster file never changes the past.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from rayplat.core.database import open_tables, reading, writing
from rayplat.core.settings import Settings
from rayplat.cost.meter import HOUR_US, Entry, meter
from rayplat.cost.prices import PriceBook, joined
from rayplat.cost.usage import FactSource, JobSource, Ownership, micros, moment, spans

_LOCK = 0x6C656467
_METADATA = sa.MetaData()
_PERIODS = sa.Table(
    "cost_periods",
    _METADATA,
    sa.Column("begin", sa.BigInteger, primary_key=True, autoincrement=False),  # microseconds since 1970
    sa.Column("closed_at", sa.BigInteger, nullable=False),
)
_ENTRIES = sa.Table(
    "cost_entries",
    _METADATA,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("begin", sa.BigInteger, nullable=False, index=True),
    sa.Column("node", sa.String(128), nullable=False),
    sa.Column("node_group", sa.String(64), nullable=False),
    sa.Column("market", sa.String(16), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("job", sa.String(255), nullable=False),
    sa.Column("team", sa.String(255), nullable=False),
    sa.Column("project", sa.String(255), nullable=False),
    sa.Column("nano", sa.BigInteger, nullable=False),  # nano-dollars; a correction may be negative
    sa.Column("revision", sa.Integer, nullable=False),  # 0: the booking; 1, 2, …: corrections
    sa.Column("booked_at", sa.BigInteger, nullable=False),
)
_PRICES = sa.Table(
    "cost_prices",
    _METADATA,
    sa.Column("node_group", sa.String(64), primary_key=True),
    sa.Column("market", sa.String(16), primary_key=True),
    sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("nano_per_hour", sa.BigInteger, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
)
_KEY = ("node", "node_group", "market", "kind", "owner", "job", "team", "project")
RECHECK = timedelta(hours=6)
"""Hours that closed so long ago are looked at again for facts that came late."""
GRACE = timedelta(minutes=2)
"""An hour is closed so long after its end."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One entry with the hour that it is for and whose it is."""

    begin: datetime
    node: str
    group: str
    market: str
    kind: str
    owner: str
    job: str
    team: str
    project: str
    nano: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one call of `settle` wrote."""

    closed: int
    booked: int
    corrections: int


class Ledger:
    """The ledger of one platform. Safe for many processes; the database is opened at first use.

    Args:
        settings: `database` holds it.
        facts: nodes and uses.
        jobs: whose each job is.
    """

    def __init__(self, settings: Settings, facts: FactSource, jobs: JobSource) -> None:
        self.settings = settings
        self.facts = facts
        self.jobs = jobs

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self.settings.database, _METADATA, _LOCK)

    def close(self) -> None:
        """Give the connections back; the next use opens them again."""
        if "_engine" in self.__dict__:
            self.__dict__.pop("_engine").dispose()

    def prices(self, current: PriceBook, now: datetime, *, keep: bool = True) -> PriceBook:
        """The prices through time; those that are new or changed are kept as from `now`.

        The first price of a group holds for all of the time before as well.
        """
        at = micros(now)
        with writing(self._engine, _LOCK) if keep else reading(self._engine) as connection:
            query = sa.select(
                _PRICES.c.node_group, _PRICES.c.market, _PRICES.c.since, _PRICES.c.nano_per_hour
            )
            rows = [tuple(row) for row in connection.execute(query)]
            known = joined(rows, current.source)
            fresh = [
                (group, market, at if (group, market) in known.steps else 0, steps[-1].nano_per_hour)
                for (group, market), steps in current.steps.items()
                if (group, market) not in known.steps
                or known.at(group, market, at) != steps[-1].nano_per_hour
            ]
            if keep and fresh:
                connection.execute(
                    sa.insert(_PRICES), [_price_row(*row, source=current.source) for row in fresh]
                )
        return joined([*rows, *fresh], current.source)

    def settle(self, book: PriceBook, now: datetime, recheck: timedelta = RECHECK) -> Settlement:
        """Book every hour that is over, and correct those of the last hours where facts came late.

        Each hour is one transaction: killed in between and called again, it goes on where it was.

        Raises:
            UnknownPriceError: a node's group has no price; hours before are booked.
        """
        first = self.facts.earliest()
        if first is None:
            return Settlement(0, 0, 0)
        over = _hour(micros(now - GRACE))
        with reading(self._engine) as connection:
            last = connection.execute(sa.select(sa.func.max(_PERIODS.c.begin))).scalar()
        start = _hour(micros(first)) if last is None else min(last + HOUR_US, over - recheck // _US)
        start = max(start, _hour(micros(first)))
        whose = Ownership(self.jobs.jobs()) if start < over else Ownership([])
        done = [self._settle_hour(at, book, whose, now) for at in range(_hour(start), over, HOUR_US)]
        return Settlement(
            sum(d.closed for d in done), sum(d.booked for d in done), sum(d.corrections for d in done)
        )

    def _settle_hour(self, begin: int, book: PriceBook, whose: Ownership, now: datetime) -> Settlement:
        wanted = _totals(self.metered(begin, begin + HOUR_US, book, whose))
        with writing(self._engine, _LOCK) as connection:
            period = sa.select(_PERIODS.c.begin).where(_PERIODS.c.begin == begin)
            closed = connection.execute(period).first() is not None
            booked = _booked(connection, begin) if closed else {}
            changes = {
                key: change
                for key in {**wanted, **booked}
                if (change := wanted.get(key, 0) - booked.get(key, 0))
            }
            revision = _revision(connection, begin) if closed else 0
            stamp: dict[str, Any] = {"begin": begin, "revision": revision, "booked_at": micros(now)}
            if not closed:
                connection.execute(sa.insert(_PERIODS), [{"begin": begin, "closed_at": micros(now)}])
            if changes:
                connection.execute(
                    sa.insert(_ENTRIES),
                    [
                        stamp | dict(zip(_KEY, key, strict=True)) | {"nano": change}
                        for key, change in sorted(changes.items())
                    ],
                )
        count = len(changes)
        return Settlement(int(not closed), 0 if closed else count, count if closed else 0)

    def metered(self, begin: int, end: int, book: PriceBook, whose: Ownership) -> list[Charge]:
        """What a window costs by the facts as they are now; nothing is written."""
        nodes, uses = spans(self.facts.between(moment(begin), moment(end)))
        return [_charge(begin, e, whose) for e in meter(nodes, uses, book, begin, end)]

    def charges(self, since: datetime, until: datetime, book: PriceBook) -> list[Charge]:
        """Every entry of the hours from `since` on: closed ones as booked, the rest metered now.

        `since` counts from the beginning of its hour. `until` cuts an hour that is not closed; a closed
        one counts if it began before.
        """
        begin, end = _hour(micros(since)), micros(until)
        with reading(self._engine) as connection:
            window = sa.and_(_PERIODS.c.begin >= begin, _PERIODS.c.begin < end)
            closed = set(connection.execute(sa.select(_PERIODS.c.begin).where(window)).scalars())
            own = sa.and_(_ENTRIES.c.begin >= begin, _ENTRIES.c.begin < end)
            rows = connection.execute(sa.select(_ENTRIES).where(own).order_by(_ENTRIES.c.seq))
            found = [_from_row(row) for row in rows]
        return found + self._open(begin, end, closed, book)

    def sums(self, since: datetime, until: datetime, book: PriceBook) -> dict[tuple[str, str, str, str], int]:
        """As `charges`, added up by kind, owner, team and project."""
        begin, end = _hour(micros(since)), micros(until)
        columns = [_ENTRIES.c[name] for name in ("kind", "owner", "team", "project")]
        with reading(self._engine) as connection:
            window = sa.and_(_PERIODS.c.begin >= begin, _PERIODS.c.begin < end)
            closed = set(connection.execute(sa.select(_PERIODS.c.begin).where(window)).scalars())
            own = sa.and_(_ENTRIES.c.begin >= begin, _ENTRIES.c.begin < end)
            query = sa.select(*columns, sa.func.sum(_ENTRIES.c.nano)).where(own).group_by(*columns)
            found = {tuple(row[:-1]): int(row[-1]) for row in connection.execute(query)}
        for c in self._open(begin, end, closed, book):
            key = (c.kind, c.owner, c.team, c.project)
            found[key] = found.get(key, 0) + c.nano
        return found

    def _open(self, begin: int, end: int, closed: set[int], book: PriceBook) -> list[Charge]:
        """The hours of a window that are not closed, metered now from one look at the facts."""
        first = self.facts.earliest()
        if first is None:
            return []
        hours = [at for at in range(max(begin, _hour(micros(first))), end, HOUR_US) if at not in closed]
        if not hours:
            return []
        nodes, uses = spans(self.facts.between(moment(hours[0]), moment(end)))
        whose = Ownership(self.jobs.jobs())
        return [
            _charge(at, entry, whose)
            for at in hours
            for entry in meter(nodes, uses, book, at, min(at + HOUR_US, end))
        ]


_US = timedelta(microseconds=1)


def _price_row(group: str, market: str, since: int, price: int, *, source: str) -> dict[str, Any]:
    return {
        "node_group": group,
        "market": market,
        "since": since,
        "nano_per_hour": price,
        "source": source,
    }


def _hour(us: int) -> int:
    return us - us % HOUR_US


def _charge(begin: int, entry: Entry, whose: Ownership) -> Charge:
    mine = whose.of(entry.job, entry.owner)
    return Charge(
        moment(begin),
        entry.node,
        entry.group,
        entry.market,
        entry.kind,
        entry.owner,
        entry.job,
        mine.team,
        mine.project,
        entry.nano,
    )


def _from_row(row: Any) -> Charge:
    return Charge(
        moment(row.begin),
        row.node,
        row.node_group,
        row.market,
        row.kind,
        row.owner,
        row.job,
        row.team,
        row.project,
        row.nano,
    )


def _totals(charges: Iterable[Charge]) -> dict[tuple[str, ...], int]:
    totals: dict[tuple[str, ...], int] = {}
    for c in charges:
        key = (c.node, c.group, c.market, c.kind, c.owner, c.job, c.team, c.project)
        totals[key] = totals.get(key, 0) + c.nano
    return totals


def _booked(connection: sa.Connection, begin: int) -> Mapping[tuple[str, ...], int]:
    columns = [_ENTRIES.c[name] for name in _KEY]
    query = (
        sa.select(*columns, sa.func.sum(_ENTRIES.c.nano)).where(_ENTRIES.c.begin == begin).group_by(*columns)
    )
    return {tuple(row[:-1]): int(row[-1]) for row in connection.execute(query)}


def _revision(connection: sa.Connection, begin: int) -> int:
    query = sa.select(sa.func.max(_ENTRIES.c.revision)).where(_ENTRIES.c.begin == begin)
    return int(connection.execute(query).scalar() or 0) + 1


def total(charges: Sequence[Charge]) -> int:
    """What charges cost together, nano-dollars."""
    return sum(c.nano for c in charges)


def now_utc() -> datetime:
    """The clock of those that are given none."""
    return datetime.now(UTC)
