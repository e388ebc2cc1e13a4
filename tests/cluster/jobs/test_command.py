"""From words to a command, and what is refused before anything is sent."""

from pathlib import Path

import pytest

from rayplat.cluster.jobs.command import check, named_project, project_name, resolve
from rayplat.cluster.jobs.folder import pack
from rayplat.cluster.jobs.request import JobRequest
from rayplat.core.errors import NotFoundError, ProjectError, UserError


def test_a_verb_is_a_file_of_jobs(folder: Path) -> None:
    assert resolve(["train"], folder, "small.py") == ("python", "jobs/train.py", "--project", "small.py")
    assert resolve(["train", "--lr", "3"], folder, None) == ("python", "jobs/train.py", "--lr", "3")
    assert resolve(["jobs/train.py", "x"], folder, "p") == (
        "python",
        "jobs/train.py",
        "--project",
        "p",
        "x",
    )


def test_what_stands_after_the_dashes_is_left_alone(folder: Path) -> None:
    assert resolve(["--", "train", "--project", "x"], folder, None) == ("train", "--project", "x")


def test_a_verb_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'train'") as told:
        resolve(["trian"], folder, None)
    assert "name one of: train;" in told.value.mend  # job.py is what the others share, no job
    for nothing in ([], ["--"]):
        with pytest.raises(UserError, match="nothing to submit"):
            resolve(nothing, folder, None)


def test_the_project_of_a_command_is_named() -> None:
    assert named_project(["python", "a.py", "--project", "examples/flights"]) == "examples/flights"
    assert named_project(["a", "--project=p.q"]) == "p.q"
    assert named_project(["a", "--project"]) == ""
    assert [project_name(a) for a in ("examples/flights/", "a/small.py", "pkg.mod", "")] == [
        "flights",
        "small",
        "mod",
        "",
    ]


def _check(folder: Path, *command: str) -> None:
    request = JobRequest(command=command, folder=folder, user="ada")
    check(request, pack(folder, 10, 100))


def test_what_can_run_passes(folder: Path) -> None:
    _check(folder, "python", "jobs/train.py", "--project", "small.py")
    _check(folder, "python", "jobs/train.py", "--project", "./small")
    _check(folder, "python", "-c", "print(1)")
    _check(folder, "ls", "--project", "rayplat.console")  # an installed package


def test_a_script_or_project_that_is_not_sent_is_told(folder: Path) -> None:
    (folder / ".gitignore").write_text("small.py\nlocal.py\n")
    (folder / "local.py").write_text("")
    with pytest.raises(UserError, match=r"local\.py is left out of the working folder"):
        _check(folder, "python", "local.py")
    with pytest.raises(UserError, match=r"gone\.py is not in the working folder"):
        _check(folder, "python", "gone.py")
    with pytest.raises(ProjectError) as told:
        _check(folder, "python", "jobs/train.py", "--project", "small")
    assert "small.py is left out" in str(told.value)
    with pytest.raises(ProjectError) as told:
        _check(folder, "python", "jobs/train.py", "--project", "examples/none")
    assert "there is no project at 'examples/none'" in str(told.value)


def test_what_is_no_python_is_told_with_its_line(folder: Path) -> None:
    (folder / "small.py").write_text("a = 1\nb = = 2\n")
    with pytest.raises(ProjectError) as told:
        _check(folder, "python", "jobs/train.py", "--project", "small.py")
    assert "small.py:2: syntax error" in str(told.value)
    with pytest.raises(UserError, match=r"small\.py:2: syntax error"):
        _check(folder, "python", "small.py")
