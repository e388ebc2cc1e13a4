"""The teams of the cluster file as a door for jobs: whose a job is, and what its team may hold.

Knows where teams and open jobs are found; the decision itself is `decide`, which is pure.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rayplat.cluster.jobs.record import JobRecord, Needs
from rayplat.cluster.jobs.request import Admission, Admit, Admitted, JobRequest, OverQuota, Refused
from rayplat.cluster.spec import Team, load_spec
from rayplat.core.settings import Settings

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Teams:
    """The teams by name; none at all means that nobody is counted."""

    by_name: Mapping[str, Team]

    def of(self, user: str) -> str:
        """The team of a user; empty if it is in none."""
        return next((name for name, team in self.by_name.items() if user in team.members), "")


def teams_of(settings: Settings) -> Teams:
    """The teams in the cluster file.

    Raises:
        UserError: the file says what it may not.
    """
    return Teams(load_spec(Path(settings.ray.spec)).teams)


def decide(request: JobRequest, teams: Teams, held: Needs) -> Admission:
    """Whether a job may come in.

    Args:
        held: what the open jobs of the request's team have declared.
    """
    if not teams.by_name:
        return Admitted()
    own = teams.of(request.user)
    if own and request.team != own:
        return Refused(
            f"{request.user} is in team {own!r}, not in {request.team!r}",
            f"give --team {own}, or have the cluster file changed",
        )
    if request.team and request.team not in teams.by_name:
        return Refused(
            f"there is no team {request.team!r} in the cluster file",
            f"name one of: {', '.join(teams.by_name)}",
        )
    team = teams.by_name.get(request.team)
    wanted, taken = as_resources(request.needs), as_resources(held)
    for name, limit in sorted(team.quota.items()) if team else ():
        if wanted.get(name, 0.0) and wanted[name] + taken[name] > limit:
            # What is more than the whole quota has room at no time.
            kind = OverQuota if wanted[name] <= limit else Refused
            return kind(
                f"team {request.team} may hold {limit:g} {name} at a time: its open jobs declare "
                f"{taken[name]:g}, and this one declares {wanted[name]:g}",
                "declare less, wait for the team's other jobs (`rayplat submit --wait`), or have the quota "
                "in the cluster file raised",
            )
    return Admitted()


def as_resources(needs: Needs) -> dict[str, float]:
    """Needs by the names of Ray's resources: CPU, GPU, and memory in bytes."""
    return {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory_gib * _GIB}


def held_by(team: str, records: Sequence[JobRecord]) -> Needs:
    """What the open jobs of a team have declared, together."""
    total = Needs()
    for record in records:
        if record.team == team and not record.ended:
            total = total.plus(record.needs)
    return total


def quota_status(name: str, team: Team, records: Sequence[JobRecord]) -> list[tuple[str, float, float]]:
    """Of each resource that a team has a quota of: what its open jobs have declared, and the quota."""
    held = as_resources(held_by(name, records))
    return [(resource, held.get(resource, 0.0), limit) for resource, limit in sorted(team.quota.items())]


def team_quota(settings: Settings, teams: Teams) -> Admit:
    """The teams as a door for `submit`; looks at the history only for a job that declares something."""

    def admit(request: JobRequest) -> Admission:
        held = Needs()
        if request.needs != Needs() and request.team in teams.by_name:
            from rayplat.cluster.jobs.history import JobHistory
            from rayplat.cluster.jobs.settling import settle

            with closing(JobHistory(settings)) as history:
                settle(settings, history)
                held = held_by(request.team, history.unsettled())
        return decide(request, teams, held)

    return admit
