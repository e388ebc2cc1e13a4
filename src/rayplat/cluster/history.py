"""The history of clusters: nodes and who held them, as intervals in the platform's database.

Knows the tables, and how one look changes them; it does not know how one looks (`observe`). Writing the
same look twice changes nothing, and a writer that was killed goes on where it was. What ended while
nobody looked ends when it was last seen: time that nobody can vouch for is not billed.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from rayplat.cluster.facts import Demand, NodeFact, UseFact
from rayplat.cluster.observe import Look, SeenNode, SeenUse
from rayplat.core.database import open_tables, reading, writing
from rayplat.core.settings import Settings

REFRESH_S = 15.0
"""A look that changes nothing is written down (as `last_seen`) so often."""

_LOCK = 0x7261_7905
_US = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_METADATA = sa.MetaData()
# Times are whole microseconds since 1970: money is made of them, and must add up exactly.
_NODES = sa.Table(
    "cluster_nodes",
    _METADATA,
    sa.Column("node_id", sa.String(64), primary_key=True),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("node_group", sa.String(64), nullable=False),
    sa.Column("market", sa.String(16), nullable=False),
    sa.Column("started", sa.BigInteger, nullable=False, index=True),
    sa.Column("ended", sa.BigInteger, nullable=True, index=True),
    sa.Column("last_seen", sa.BigInteger, nullable=False),
    sa.Column("resources", sa.Text, nullable=False),
)
_USES = sa.Table(
    "cluster_uses",
    _METADATA,
    sa.Column("node_id", sa.String(64), primary_key=True),
    sa.Column("owner_kind", sa.String(16), primary_key=True),
    sa.Column("owner", sa.String(255), primary_key=True),
    sa.Column("job_id", sa.String(64), primary_key=True),
    sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("until", sa.BigInteger, nullable=True, index=True),
    sa.Column("resources", sa.Text, nullable=False),
)
_DEMANDS = sa.Table(
    "cluster_demands",
    _METADATA,
    sa.Column("place", sa.String(255), primary_key=True),
    sa.Column("resources", sa.String(500), primary_key=True),
    sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("until", sa.BigInteger, nullable=True, index=True),
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
)


class ClusterHistory:
    """The history that the platform's database holds. Safe for many processes.

    Args:
        settings: `database` holds it.
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

    def record(self, place: str, look: Look, why: Mapping[int, str] | None = None) -> None:
        """Write one look at the cluster of a place down, in one transaction.

        Args:
            place: what tells this cluster from others of the same database, such as the platform's home.
            look: what was seen.
            why: why each demand waits, by its place in `look.demands`.
        """
        with writing(self._engine, _LOCK) as connection:
            known = _open_nodes(connection, place)
            _record_nodes(connection, place, known, look)
            _record_uses(connection, set(known), look)
            _record_demands(connection, place, look, why or {})

    def end(self, place: str, at: datetime | None = None) -> None:
        """End everything that is open at a place: at `at`, or where each was last seen."""
        with writing(self._engine, _LOCK) as connection:
            for node in _open_nodes(connection, place).values():
                ended = node.last_seen if at is None else max(at, node.started)
                _write_node(connection, place, replace(node, ended=ended, last_seen=ended))
                _end_uses(connection, node.node_id, ended)
            values = {"until": _micros(at or datetime.now(UTC))}
            own = sa.and_(_DEMANDS.c.place == place, _DEMANDS.c.until.is_(None))
            connection.execute(sa.update(_DEMANDS).where(own).values(values))

    def nodes(self, begin: datetime | None = None, end: datetime | None = None) -> list[NodeFact]:
        """The nodes that were there in a window, the eldest first; all of them without one."""
        gone = sa.func.coalesce(_NODES.c.ended, _NODES.c.last_seen)
        query = sa.select(_NODES).order_by(_NODES.c.started, _NODES.c.node_id)
        with reading(self._engine) as connection:
            return [
                _node(row) for row in connection.execute(_within(query, _NODES.c.started, gone, begin, end))
            ]

    def uses(self, begin: datetime | None = None, end: datetime | None = None) -> list[UseFact]:
        """Who held what in a window, the eldest first; all of it without one."""
        far = sa.func.coalesce(_USES.c.until, 2**62)
        query = sa.select(_USES).order_by(_USES.c.since, _USES.c.node_id, _USES.c.owner)
        with reading(self._engine) as connection:
            return [_use(row) for row in connection.execute(_within(query, _USES.c.since, far, begin, end))]

    def demands(self, place: str) -> list[Demand]:
        """What waits at a place now, the eldest first."""
        own = sa.and_(_DEMANDS.c.place == place, _DEMANDS.c.until.is_(None))
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(_DEMANDS).where(own).order_by(_DEMANDS.c.since)).all()
        return [Demand(json.loads(r.resources), r.requests, _moment(r.since), r.why) for r in rows]

    def first_start(self) -> datetime | None:
        """When the first node of all started; None if there never was one."""
        with reading(self._engine) as connection:
            first = connection.execute(sa.select(sa.func.min(_NODES.c.started))).scalar()
        return None if first is None else _moment(first)


def _within(
    query: sa.Select[Any], since: Any, until: Any, begin: datetime | None, end: datetime | None
) -> Any:
    if begin is not None:
        query = query.where(until >= _micros(begin))
    return query if end is None else query.where(since < _micros(end))


def _record_nodes(connection: sa.Connection, place: str, known: Mapping[str, NodeFact], look: Look) -> None:
    seen = {node.node_id for node in look.nodes}
    told = _known_ids(connection, [n.node_id for n in look.nodes if n.ended is not None])
    for node in look.nodes:
        before = known.get(node.node_id)
        if before is not None:
            last = max(before.last_seen, node.ended or look.at)
            _write_node(connection, place, replace(before, ended=node.ended, last_seen=last))
        elif node.ended is None or node.node_id not in told:
            _write_node(connection, place, _fact(node, look.at))
        if node.ended is not None and node.node_id in known:
            _end_uses(connection, node.node_id, node.ended)
    for node_id, before in known.items():
        if node_id not in seen:  # of an earlier session, whose end nobody saw
            _write_node(connection, place, replace(before, ended=before.last_seen))
            _end_uses(connection, node_id, before.last_seen)


def _record_uses(connection: sa.Connection, known: set[str], look: Look) -> None:
    ids = known | {node.node_id for node in look.nodes}
    alive = {node.node_id: node for node in look.alive}
    open_uses = {_key(use): use for use in _open_uses(connection, ids)}
    now = {_seen_key(use): use for use in look.uses if use.node_id in alive}
    for key, held in open_uses.items():
        if key not in now or dict(now[key].resources) != dict(held.resources):
            _end_use(connection, held, look.at)
    for key, use in now.items():
        before = open_uses.get(key)
        if before is None:
            began = max(use.since or look.at, alive[use.node_id].started, _last_until(connection, use))
            _write_use(connection, use, min(began, look.at))
        elif dict(use.resources) != dict(before.resources):
            _write_use(connection, use, look.at)


def _record_demands(connection: sa.Connection, place: str, look: Look, why: Mapping[int, str]) -> None:
    own = sa.and_(_DEMANDS.c.place == place, _DEMANDS.c.until.is_(None))
    open_ones = {row.resources: row for row in connection.execute(sa.select(_DEMANDS).where(own))}
    now = {_json(d.resources): (d.count, why.get(i, "")) for i, d in enumerate(look.demands)}
    at = _micros(look.at)
    for text, row in open_ones.items():
        this = sa.and_(own, _DEMANDS.c.resources == text)
        if text not in now:
            connection.execute(sa.update(_DEMANDS).where(this).values(until=at))
        elif now[text] != (row.requests, row.why):
            connection.execute(
                sa.update(_DEMANDS).where(this).values(requests=now[text][0], why=now[text][1])
            )
    for text in now.keys() - open_ones.keys():
        count, reason = now[text]
        key = {"place": place, "resources": text, "since": at}
        values = {"until": None, "requests": count, "why": reason}
        same = sa.and_(*[_DEMANDS.c[name] == value for name, value in key.items()])
        if not connection.execute(sa.update(_DEMANDS).where(same).values(values)).rowcount:
            connection.execute(sa.insert(_DEMANDS), [{**key, **values}])


def _open_nodes(connection: sa.Connection, place: str) -> dict[str, NodeFact]:
    query = sa.select(_NODES).where(_NODES.c.place == place, _NODES.c.ended.is_(None))
    return {row.node_id: _node(row) for row in connection.execute(query)}


def _known_ids(connection: sa.Connection, ids: Iterable[str]) -> set[str]:
    wanted = list(ids)
    if not wanted:
        return set()
    return set(connection.execute(sa.select(_NODES.c.node_id).where(_NODES.c.node_id.in_(wanted))).scalars())


def _write_node(connection: sa.Connection, place: str, node: NodeFact) -> None:
    values = {
        "place": place,
        "node_group": node.group,
        "market": node.market,
        "started": _micros(node.started),
        "ended": None if node.ended is None else _micros(node.ended),
        "last_seen": _micros(node.last_seen),
        "resources": _json(node.resources),
    }
    this = _NODES.c.node_id == node.node_id
    if not connection.execute(sa.update(_NODES).where(this).values(values)).rowcount:
        connection.execute(sa.insert(_NODES), [{"node_id": node.node_id, **values}])


def _open_uses(connection: sa.Connection, ids: Iterable[str]) -> list[UseFact]:
    query = sa.select(_USES).where(_USES.c.until.is_(None), _USES.c.node_id.in_(list(ids)))
    return [_use(row) for row in connection.execute(query)]


def _end_uses(connection: sa.Connection, node_id: str, at: datetime) -> None:
    for use in _open_uses(connection, [node_id]):
        _end_use(connection, use, at)


def _end_use(connection: sa.Connection, use: UseFact, at: datetime) -> None:
    connection.execute(
        sa.update(_USES)
        .where(
            _USES.c.node_id == use.node_id,
            _USES.c.owner_kind == use.owner_kind,
            _USES.c.owner == use.owner,
            _USES.c.job_id == use.job_id,
            _USES.c.since == _micros(use.since),
        )
        .values(until=_micros(max(at, use.since)))
    )


def _last_until(connection: sa.Connection, use: SeenUse) -> datetime:
    """When the owner's last interval on the node ended: what it holds must not be counted twice."""
    names = ("node_id", "owner_kind", "owner", "job_id")
    same = sa.and_(*[_USES.c[n] == v for n, v in zip(names, _seen_key(use), strict=True)])
    last = connection.execute(sa.select(sa.func.max(_USES.c.until)).where(same)).scalar()
    return _EPOCH if last is None else _moment(last)


def _write_use(connection: sa.Connection, use: SeenUse, since: datetime) -> None:
    owner = use.owner
    key = {
        "node_id": use.node_id,
        "owner_kind": owner.kind,
        "owner": owner.name,
        "job_id": owner.job_id,
        "since": _micros(since),
    }
    same = sa.and_(*[_USES.c[name] == value for name, value in key.items()])
    values = {"until": None, "resources": _json(use.resources)}
    if not connection.execute(sa.update(_USES).where(same).values(values)).rowcount:
        connection.execute(sa.insert(_USES), [{**key, **values}])


def _fact(node: SeenNode, seen: datetime) -> NodeFact:
    resources = {k: v for k, v in node.resources.items() if not k.startswith("node:")}
    return NodeFact(
        node.node_id, node.group, node.market, node.started, node.ended, node.ended or seen, resources
    )


def _key(use: UseFact) -> tuple[str, str, str, str]:
    return use.node_id, use.owner_kind, use.owner, use.job_id


def _seen_key(use: SeenUse) -> tuple[str, str, str, str]:
    return use.node_id, use.owner.kind, use.owner.name, use.owner.job_id


def _node(row: Any) -> NodeFact:
    ended = None if row.ended is None else _moment(row.ended)
    return NodeFact(
        row.node_id,
        row.node_group,
        row.market,
        _moment(row.started),
        ended,
        _moment(row.last_seen),
        json.loads(row.resources),
    )


def _use(row: Any) -> UseFact:
    until = None if row.until is None else _moment(row.until)
    return UseFact(
        row.node_id,
        row.owner_kind,
        row.owner,
        row.job_id,
        json.loads(row.resources),
        _moment(row.since),
        until,
    )


def _json(resources: Mapping[str, float]) -> str:
    return json.dumps(dict(sorted(resources.items())))


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _US


def _moment(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _US
