"""The budgets as a door for jobs: within, warned, or refused before anything is sent.

Knows how a budget's standing becomes an answer; the policy is in `budget`.
"""

from collections.abc import Callable
from datetime import datetime

from rayplat.cluster.jobs.request import Admission, Admit, Admitted, JobRequest, Refused, Warned, admit_all
from rayplat.cluster.spec import ClusterSpec
from rayplat.core.settings import Settings
from rayplat.cost.accounts import Accounts, Sources, sources_of
from rayplat.cost.budget import Level, Standing, Work, worst
from rayplat.cost.ledger import now_utc


def budget_door(
    settings: Settings, sources: Sources | None = None, clock: Callable[[], datetime] = now_utc
) -> Admit:
    """The budgets of the cluster file as a door; it looks at the ledger only where there are any.

    Raises:
        UserError: the cluster file says what it may not.
    """
    chosen = sources or sources_of(settings)
    if not chosen.spec.budgets:
        return admit_all

    def admit(request: JobRequest) -> Admission:
        with Accounts(settings, chosen) as accounts:
            work = Work("job", request.resumed_from, request.team, request.project)
            return answer(accounts.standings(clock(), [work]), work, chosen.spec)

    return admit


def answer(standings: list[Standing], work: Work, spec: ClusterSpec) -> Admission:
    """What the budgets say to work that asks to be let in."""
    found = worst(standings, work)
    if found is None:
        return Admitted()
    if found.level is Level.WARN:
        return Warned(str(found))
    until = f"wait for the next {found.per}" if found.per in ("day", "month") else "it does not begin anew"
    return Refused(
        f"the budget is spent: {found}",
        f"{until}, or have limit_usd of {found.scope} {found.name} in the cluster file of {spec.name} raised",
    )
