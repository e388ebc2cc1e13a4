"""Promotion: a version that passes the gates becomes champion.

Knows the order of the steps (judge, move the alias, tell); it does not know how traffic follows.
"""

from dataclasses import dataclass

from rayplat.core.events import AliasMoved
from rayplat.core.project.model import Model
from rayplat.delivery.gates import Verdict, judge
from rayplat.delivery.parts import Parts
from rayplat.serve.others import PREVIOUS
from rayplat.train.trainer import TrainOutcome

CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class Promotion:
    """What became of a version. `moved` tells whether the alias was moved by this call."""

    version: int
    champion: int | None
    moved: bool
    verdict: Verdict


def promote(parts: Parts, model: Model, outcome: TrainOutcome, actor: str) -> Promotion:
    """Make the version champion if every gate passes; doing it twice changes nothing.

    The audit log says whether this version was made champion before: if so the alias is left where
    somebody has put it since (a rollback is not undone by running again). A process that died between
    moving the alias and telling of it is made good here.
    """
    verdict = judge(model.gates, outcome.metrics, outcome.baselines)
    current = parts.registry.by_alias(model.name, CHAMPION)
    champion = current.version if current else None
    if not verdict.passed or _was_champion(parts, model, outcome.version):
        return Promotion(outcome.version, champion, moved=False, verdict=verdict)
    previous = None
    if champion != outcome.version:
        previous = parts.registry.set_alias(model.name, CHAMPION, outcome.version, actor, verdict.reason)
        if previous is not None:
            # It stands in where the new one fails.
            parts.registry.set_alias(model.name, PREVIOUS, previous, actor, "it was champion before")
    parts.bus.emit(
        AliasMoved(
            model=model.name,
            alias=CHAMPION,
            version=outcome.version,
            previous=previous,
            actor=actor,
            reason=verdict.reason,
        )
    )
    return Promotion(outcome.version, outcome.version, moved=True, verdict=verdict)


def _was_champion(parts: Parts, model: Model, version: int) -> bool:
    moves = parts.audit.entries(action="alias.moved", subject=f"{model.name}@{CHAMPION}")
    return any(move.details.get("version") == version for move in moves)
