"""What happened, as frozen values, and the bus that carries them inside one process.

Knows the shape of each event and who asked to hear it; it does not know what a listener does.
Domains emit; the wiring subscribes lineage, cost and monitoring. An event is emitted after the
fact is durable, so a listener that fails cannot undo it: its error is raised to the emitter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that has happened. `at` is when it was noticed, in UTC."""

    at: datetime = field(default_factory=_now)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCommitted(Event):
    """A table has a new snapshot. `offsets` is the next offset to read, by partition."""

    table: str
    snapshot_id: int
    rows: int
    source: str
    offsets: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetBuilt(Event):
    """A training set was built from pinned snapshots. `digest` is the SHA-256 of its content."""

    model: str
    snapshot_id: int
    rows: int
    digest: str
    sources: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSuspected(Event):
    """A feature of a training set tells the label too well to be true: it may know the outcome.

    `auc` is its own area under the ROC curve, on `rows` rows; `reads` are the columns it is made of.
    """

    model: str
    snapshot_id: int
    feature: str
    auc: float
    rows: int
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureViewApplied(Event):
    """A view's definition has become a version; `before` is the one that it had, 0 where it is new."""

    project: str
    view: str
    version: int
    before: int
    digest: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """A training run has ended well."""

    model: str
    run_id: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRegistered(Event):
    """A model version exists in the registry with a verified artifact."""

    model: str
    version: int
    run_id: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMoved(Event):
    """An alias (champion, challenger) points at another version. `actor` answers for it."""

    model: str
    alias: str
    version: int
    previous: int | None
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointDeployed(Event):
    """An endpoint answers with a model version."""

    endpoint: str
    model: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableScored(Event):
    """A table was scored: `rows` of its snapshot `read` are predictions in `into` since `snapshot_id`.

    `sources` are the snapshots that features were made of.
    """

    model: str
    version: int
    table: str
    read: int
    into: str
    snapshot_id: int
    rows: int
    sources: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetWarned(Event):
    """A budget is spent to its warning. `scope` is team, project or run; money is in USD, as text."""

    scope: str
    name: str
    spent_usd: str
    limit_usd: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRefused(Event):
    """A budget is spent so far that new work is refused from now on."""

    scope: str
    name: str
    spent_usd: str
    limit_usd: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStopped(Event):
    """A budget is spent; `stopped` (kind and owner) are asked to write a checkpoint and end."""

    scope: str
    name: str
    spent_usd: str
    limit_usd: str
    stopped: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCreated(Event):
    """A caller has a token for endpoints. `token_id` names it and is no secret."""

    token_id: str
    caller: str
    scopes: tuple[str, ...]
    expires_at: datetime
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevoked(Event):
    """A token is good no more."""

    token_id: str
    caller: str
    actor: str


E = TypeVar("E", bound=Event)


class EventBus:
    """Delivers each event to the listeners of its type (and of its base types), in order."""

    def __init__(self) -> None:
        self._listeners: list[tuple[type[Event], Callable[[Event], None]]] = []

    def subscribe(self, kind: type[E], listener: Callable[[E], None]) -> None:
        """Call `listener` with every later event that is a `kind`."""
        self._listeners.append((kind, listener))  # type: ignore[arg-type]

    def emit(self, event: Event) -> None:
        """Deliver `event` before returning; the first listener's error is raised."""
        for kind, listener in self._listeners:
            if isinstance(event, kind):
                listener(event)
