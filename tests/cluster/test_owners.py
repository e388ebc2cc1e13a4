"""Whose an actor, a task or a placement group is."""

import pytest

from rayplat.cluster.owners import Driver, Owner, owner_of

DRIVERS = {
    "01": Driver("01", "rayplat_job_1"),
    "02": Driver("02", "", "run:run_7"),
    "03": Driver("03"),
    "04": Driver("04", "", "nonsense:x"),
}


@pytest.mark.parametrize(
    ("what", "job", "kind", "name"),
    [
        ("ServeReplica:buys:Endpoint", "01", "endpoint", "buys"),
        ("ServeController", "01", "platform", "ServeController"),
        ("JobSupervisor", "03", "platform", "JobSupervisor"),
        ("RayTrainWorker", "01", "run", "rayplat_job_1"),
        ("rayplat.data.streaming.readers.Reader", "01", "ingest", "rayplat_job_1"),
        ("read_partition", "03", "ingest", "driver-03"),
        ("work", "02", "run", "run_7"),
        ("work", "01", "job", "rayplat_job_1"),
        ("work", "04", "job", "driver-04"),
        ("", "99", "job", "driver-99"),
    ],
)
def test_owner(what: str, job: str, kind: str, name: str) -> None:
    assert owner_of(what, job, DRIVERS) == Owner(kind, name, job)  # type: ignore[arg-type]
