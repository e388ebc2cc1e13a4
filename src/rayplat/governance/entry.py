"""One entry of the audit log, and the hash that chains it to the one before.

Knows the canonical form of an entry and how an event becomes one; it does not know where entries are kept.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from rayplat.core.errors import UserError
from rayplat.core.events import (
    AliasMoved,
    BudgetRefused,
    BudgetStopped,
    BudgetWarned,
    EndpointDeployed,
    Event,
    FeatureSuspected,
    FeatureViewApplied,
    ModelRegistered,
    RunFinished,
    SnapshotCommitted,
    TableScored,
    TokenCreated,
    TokenRevoked,
    TrainingSetBuilt,
)

GENESIS = "0" * 64
"""What stands for the previous hash of the first entry."""

_NAMES: dict[type[Event], tuple[str, str]] = {
    SnapshotCommitted: ("snapshot.committed", "{0.table}"),
    TrainingSetBuilt: ("training_set.built", "{0.model}"),
    FeatureSuspected: ("feature.suspected", "{0.model}/{0.feature}"),
    FeatureViewApplied: ("feature_view.applied", "{0.project}/{0.view}"),
    RunFinished: ("run.finished", "{0.model}/{0.run_id}"),
    ModelRegistered: ("model.registered", "{0.model}/{0.version}"),
    AliasMoved: ("alias.moved", "{0.model}@{0.alias}"),
    EndpointDeployed: ("endpoint.deployed", "{0.endpoint}"),
    TableScored: ("table.scored", "{0.into}"),
    BudgetWarned: ("budget.warned", "{0.scope}/{0.name}"),
    BudgetRefused: ("budget.refused", "{0.scope}/{0.name}"),
    BudgetStopped: ("budget.stopped", "{0.scope}/{0.name}"),
    TokenCreated: ("token.created", "{0.token_id}"),
    TokenRevoked: ("token.revoked", "{0.token_id}"),
}
"""The action and the subject that stand for each event; other events are not written down."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Who did what to what, when.

    Attributes:
        seq: 1 for the first entry, then without a gap.
        at: when, in UTC.
        actor: who answers for it.
        action: what was done, such as `alias.moved`.
        subject: what it was done to, such as `late_arrival@champion`.
        details: JSON values only.
        previous: the hash of the entry before, or `GENESIS`.
        hash: SHA-256 (hex) over `previous` and the canonical JSON of the other fields.
    """

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry's place and hash: what to note elsewhere, so that a cut tail is seen."""

    seq: int
    hash: str


def canonical(value: Any) -> str:
    """JSON with sorted keys, no blanks, text as it is, and no NaN: the same bytes for the same value.

    Raises:
        UserError: the value holds something that JSON has no form for.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{value!r} cannot be written to the audit log: {error}",
            "give JSON values only: text, finite numbers, true, false, null, lists and objects",
        ) from error


def chained_hash(
    previous: str, seq: int, at: str, *, actor: str, action: str, subject: str, details: str
) -> str:
    """The hash of an entry: SHA-256 over `previous`, a line break, and the canonical JSON of the rest.

    Args:
        previous: 64 hex digits.
        at: ISO 8601 text, as it is stored.
        details: canonical JSON text, as it is stored: what is hashed is what a reader sees.
    """
    body = canonical([seq, at, actor, action, subject, details])
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


def described(event: Event) -> tuple[str, str, dict[str, Any]] | None:
    """The action, subject and details that stand for an event; the details are its own fields.

    None for an event that is not one of `rayplat.core.events`: it is one domain's own telemetry, and would
    bury what somebody answers for.
    """
    named = _named(event)
    if named is None:
        return None
    details = {f.name: _plain(getattr(event, f.name)) for f in fields(event) if f.name != "at"}
    return *named, details


def _named(event: Event) -> tuple[str, str] | None:
    action, subject = _NAMES.get(type(event), ("", ""))
    return (action, subject.format(event)) if action else None


def _plain(value: Any) -> Any:
    """A value as JSON has it: times as ISO text, and numbers that JSON lacks as text."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
