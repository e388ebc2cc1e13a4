"""Promotion: by the gates, once, and a rollback by hand is not undone by running again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rayplat.core.events import AliasMoved, EventBus
from rayplat.core.project.model import Gate
from rayplat.core.settings import Settings
from rayplat.delivery.promotion import CHAMPION, promote
from rayplat.governance.audit_log import AuditLog
from rayplat.serve.others import PREVIOUS


class Aliases:
    """A registry that knows aliases only."""

    def __init__(self) -> None:
        self.at: dict[str, int] = {}

    def by_alias(self, model: str, alias: str) -> Any:
        return SimpleNamespace(version=self.at[alias]) if alias in self.at else None

    def set_alias(self, model: str, alias: str, version: int, actor: str, reason: str) -> int | None:
        previous = self.at.get(alias)
        self.at[alias] = version
        return previous


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    bus, audit = EventBus(), AuditLog(Settings(home=tmp_path))
    bus.subscribe(AliasMoved, audit.record)
    return SimpleNamespace(registry=Aliases(), bus=bus, audit=audit)


def outcome(version: int, roc_auc: float) -> Any:
    return SimpleNamespace(version=version, metrics={"roc_auc": roc_auc}, baselines={})


MODEL: Any = SimpleNamespace(name="late", gates=(Gate("roc_auc", at_least=0.7),))


def moves(parts: Any) -> list[Any]:
    return [entry.details["version"] for entry in parts.audit.entries(action="alias.moved")]


def test_a_version_that_passes_becomes_champion_and_the_log_says_who(parts: Any) -> None:
    done = promote(parts, MODEL, outcome(1, 0.8), "ada")
    assert done.moved is True
    assert parts.registry.at == {CHAMPION: 1}
    (entry,) = parts.audit.entries(action="alias.moved")
    assert (entry.actor, entry.subject) == ("ada", "late@champion")
    assert "roc_auc 0.8000 holds" in entry.details["reason"]


def test_a_version_that_fails_changes_nothing(parts: Any) -> None:
    promote(parts, MODEL, outcome(1, 0.8), "ada")
    done = promote(parts, MODEL, outcome(2, 0.6), "ada")
    assert (done.moved, done.champion) == (False, 1)
    assert "under 0.7" in done.verdict.reason
    assert moves(parts) == [1]


def test_doing_it_twice_is_doing_it_once(parts: Any) -> None:
    promote(parts, MODEL, outcome(1, 0.8), "ada")
    assert promote(parts, MODEL, outcome(1, 0.8), "ada").moved is False
    assert moves(parts) == [1]


def test_a_rollback_by_hand_stays(parts: Any) -> None:
    promote(parts, MODEL, outcome(1, 0.8), "ada")
    promote(parts, MODEL, outcome(2, 0.9), "ada")
    parts.registry.set_alias("late", CHAMPION, 1, "grace", "the new one is slow")
    done = promote(parts, MODEL, outcome(2, 0.9), "ada")
    assert (done.moved, done.champion) == (False, 1)
    assert parts.registry.at == {CHAMPION: 1, PREVIOUS: 1}


def test_a_move_that_was_not_told_is_told(parts: Any) -> None:
    parts.registry.set_alias("late", CHAMPION, 1, "ada", "died before the log was written")
    promote(parts, MODEL, outcome(1, 0.8), "ada")
    assert moves(parts) == [1]
