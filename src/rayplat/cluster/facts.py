"""What is known of a cluster, as frozen values: its nodes, who used them, and what waits.

Knows the shape of the facts; it does not know where they were seen (`observe`), nor where they are
kept (`history`). Times are in UTC and have a zone; resources are logical: CPU, GPU, memory in bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Market = Literal["on-demand", "spot"]
OwnerKind = Literal["job", "run", "endpoint", "ingest", "platform"]


@dataclass(frozen=True, slots=True)
class NodeFact:
    """A node's life: from `started` to `ended`, or to at least `last_seen` while `ended` is None."""

    node_id: str
    group: str
    market: Market
    started: datetime
    ended: datetime | None
    last_seen: datetime
    resources: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class UseFact:
    """What one owner held of one node, from `since` to `until`; it still does while `until` is None.

    `owner` is the name within its kind: a run's id, an endpoint's or a table's name, a job's
    submission id; `job_id` is Ray's own, empty where there is none. The platform's own processes have
    the kind `platform`.
    """

    node_id: str
    owner_kind: OwnerKind
    owner: str
    job_id: str
    resources: Mapping[str, float]
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Demand:
    """`count` requests of the same shape that no node can take now, since when, and why they wait."""

    resources: Mapping[str, float]
    count: int
    since: datetime
    why: str
