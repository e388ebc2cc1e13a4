"""What is asked of the cluster, and the door that lets it in, warns, or refuses.

Knows the request and the decisions as values; it does not know how a job is sent, nor who decides:
quotas are decided in `quota`, budgets above; both are handed in as an `Admit`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rayplat.cluster.jobs.record import Needs
from rayplat.core.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """A command, the folder that it runs in, who asks and what for."""

    command: tuple[str, ...]
    folder: Path
    user: str
    team: str = ""
    project: str = ""
    purpose: str = ""
    needs: Needs = field(default_factory=Needs)
    resumed_from: str = ""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Let it in."""


@dataclass(frozen=True, slots=True)
class Warned:
    """Let it in, and say why it may soon be refused."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Do not take it; `mend` is what the asker can do."""

    why: str
    mend: str


@dataclass(frozen=True, slots=True)
class OverQuota(Refused):
    """Do not take it now: there will be room when other jobs of the team have ended."""


Admission = Admitted | Warned | Refused
Admit = Callable[[JobRequest], Admission]
"""Asked once a request, before anything is sent or written down."""


class RefusedError(UserError):
    """A quota or a budget does not let the job in; nothing was sent."""


def admit_all(_request: JobRequest) -> Admission:
    """Let every request in."""
    return Admitted()


def admit_in_turn(*doors: Admit) -> Admit:
    """A door behind the other: the first refusal counts, else all warnings together."""

    def admit(request: JobRequest) -> Admission:
        warnings: list[str] = []
        for door in doors:
            decision = door(request)
            if isinstance(decision, Refused):
                return decision
            if isinstance(decision, Warned):
                warnings.append(decision.why)
        return Warned("; ".join(warnings)) if warnings else Admitted()

    return admit
