import pickle

import pytest

from rayplat.core.errors import (
    BugError,
    ConflictError,
    Fault,
    IntegrityError,
    NotFoundError,
    ProjectError,
    RayplatError,
    UnavailableError,
    UserError,
    Where,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (RayplatError, 1),
        (UserError, 2),
        (NotFoundError, 3),
        (ConflictError, 4),
        (UnavailableError, 5),
        (IntegrityError, 6),
        (BugError, 70),
    ],
)
def test_errors_cross_processes_whole(kind: type[RayplatError], code: int) -> None:
    copy = pickle.loads(pickle.dumps(kind("saw 3", "give 4")))
    assert type(copy) is kind
    assert (copy.what, copy.mend, copy.exit_code) == ("saw 3", "give 4", code)
    assert str(copy) == "saw 3\n  mend: give 4"


def test_a_project_error_keeps_every_fault() -> None:
    faults = [Fault(Where("p.py", 3), "a", "b"), Fault(None, "c", "d")]
    copy = pickle.loads(pickle.dumps(ProjectError("examples/x", faults)))
    assert copy.faults == tuple(faults)
    assert str(copy).splitlines()[0] == "project 'examples/x' has 2 faults"
    assert "p.py:3: a" in str(copy)
    assert "(project): c" in str(copy)
