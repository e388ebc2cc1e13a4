"""The door that a job passes when it did not come by `rayplat submit`: its driver asks before it begins.

Knows which jobs have been let in already; it does not know the budgets: they are a plug-point, on a
higher floor.
"""

from contextlib import closing
from pathlib import Path

from rayplat.cluster.jobs.inside import Inside, this_job
from rayplat.cluster.jobs.request import JobRequest, Refused, RefusedError, Warned, admit_all
from rayplat.core import plugins
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import process_environment
from rayplat.core.telemetry import get_logger


def ask_for_this_job(settings: Settings) -> None:
    """Ask the budgets for the job that this process is; does nothing outside of one.

    Raises:
        RefusedError: a budget is spent.
        UnavailableError: the database does not answer: a limit that cannot be read is not passed by.
        UserError: the cluster file is at fault.
    """
    inside = this_job(process_environment())
    if inside is None:
        return
    admit = plugins.load("door", "budget")(settings)
    request = None if admit is admit_all else _request(settings, inside)
    if request is None:
        return
    decision = admit(request)
    if isinstance(decision, Refused):
        raise RefusedError(decision.why, decision.mend)
    if isinstance(decision, Warned):
        get_logger("cluster.jobs").warning("a budget comes to its end", why=decision.why)


def _request(settings: Settings, inside: Inside) -> JobRequest | None:
    """What this job asks for; None if `rayplat submit` has let it in, which is written in the history."""
    from rayplat.cluster.jobs.history import JobHistory
    from rayplat.cluster.jobs.quota import teams_of

    with closing(JobHistory(settings)) as history:
        known = history.find(inside.submission_id)
    if known is not None and known.runtime_digest:
        return None
    said = inside.metadata
    user = said.get("rayplat.user") or (known.user if known else "") or settings.user
    team = said.get("rayplat.team") or (known.team if known else "") or settings.jobs.team
    return JobRequest(
        command=(),
        folder=Path(),
        user=user,
        team=team or teams_of(settings).of(user),
        project=said.get("rayplat.project") or (known.project if known else ""),
        purpose=said.get("rayplat.purpose", ""),
    )
