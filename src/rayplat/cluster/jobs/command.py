"""From the words after `rayplat submit` to a command that can run, checked before anything is sent.

Knows verbs (the files of jobs/), scripts and projects inside a working folder; it imports none of
them: that is the job's.
"""

import ast
import difflib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rayplat.cluster.jobs.folder import Package
from rayplat.cluster.jobs.request import JobRequest
from rayplat.core.errors import Fault, NotFoundError, ProjectError, UserError, Where

_OPTION = "--project"
_PROJECT_FILES = ("project.py", "__init__.py")


def resolve(words: Sequence[str], folder: Path, project: str | None) -> tuple[str, ...]:
    """The command for what was asked.

    Args:
        words: a verb (`train` for jobs/train.py) or a script, and its arguments; or `--` and a whole
            command, which stays as it is.
        project: is handed to a verb or script as --project.

    Raises:
        UserError: no words.
        NotFoundError: neither a verb nor a script of the folder.
    """
    verbs = sorted(path.stem for path in (folder / "jobs").glob("*.py") if path.stem != "job")
    if not words or list(words) == ["--"]:
        raise UserError(
            "nothing to submit was named",
            f"name a job ({', '.join(verbs) or 'there is no jobs/ here'}), a script, or a command after --",
        )
    first, rest = words[0], [*words[1:]]
    if first == "--":
        return tuple(rest)
    given = [_OPTION, project] if project else []
    if first in verbs:
        return ("python", f"jobs/{first}.py", *given, *rest)
    if first.endswith(".py") and (folder / first).is_file():
        return ("python", first, *given, *rest)
    close = difflib.get_close_matches(first, verbs, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ""
    raise NotFoundError(
        f"there is no job {first!r} in {folder.resolve() / 'jobs'}{hint}",
        f"name one of: {', '.join(verbs) or '(none)'}; a script of {folder}; or a whole command after --",
    )


def named_project(command: Sequence[str]) -> str:
    """What a command gives as --project; empty if nothing."""
    for index, word in enumerate(command):
        if word == _OPTION and index + 1 < len(command):
            return command[index + 1]
        if word.startswith(f"{_OPTION}="):
            return word.partition("=")[2]
    return ""


def project_name(address: str) -> str:
    """A short name for a project's address, until the job itself knows the declared one."""
    last = address.rstrip("/").rpartition("/")[2]
    return last.removesuffix(".py").rpartition(".")[2] if last else ""


def check(request: JobRequest, package: Package) -> None:
    """See that a Python command's script and project are sent, and that they are Python.

    Raises:
        UserError: the script is not among the files that are sent, or is no Python.
        ProjectError: the same of the project.
    """
    sources = {file.path: file.content for file in package.files}
    command = request.command
    if len(command) > 1 and command[0] in ("python", "python3") and command[1].endswith(".py"):
        script = _inside(command[1])
        if script not in sources:
            raise UserError(
                _not_sent(command[1], request.folder), "see what .gitignore and .rayignore leave out"
            )
        fault = _syntax(script, sources[script])
        if fault:
            raise UserError(f"{fault.where}: {fault.what}", fault.mend)
    address = named_project(command)
    if address:
        _check_project(address, request.folder, sources)


def _check_project(address: str, folder: Path, sources: dict[str, bytes]) -> None:
    for path in _candidates(address):
        if path in sources:
            fault = _syntax(path, sources[path])
            if fault:
                raise ProjectError(address, [fault])
            return
        if (folder / path).is_file():
            raise ProjectError(
                address,
                [Fault(None, _not_sent(path, folder), "see what .gitignore and .rayignore leave out")],
            )
    if not _installed(address):
        fault = Fault(
            None,
            f"there is no project at {address!r} in {folder.resolve()}, which is what the job gets",
            "give a folder with project.py or __init__.py, a .py file, or package.module",
        )
        raise ProjectError(address, [fault])


def _candidates(address: str) -> list[str]:
    plain = _inside(address)
    dotted = plain if "/" in address or address.endswith(".py") else address.replace(".", "/")
    found = []
    for base in dict.fromkeys((plain, dotted)):
        found += [f"{base}/{name}" for name in _PROJECT_FILES]
        found += [base] if base.endswith(".py") else [f"{base}.py"]
    return found


def _inside(path: str) -> str:
    return PurePosixPath(path).as_posix()


def _installed(address: str) -> bool:
    """Whether a dotted address begins with a package that is installed (as on the cluster)."""
    first = address.partition(".")[0]
    if "/" in address or address.endswith(".py") or not first.isidentifier():
        return False
    here = sys.path
    try:
        sys.path = [entry for entry in here if entry not in ("", str(Path.cwd()))]
        return importlib.util.find_spec(first) is not None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path = here


def _not_sent(path: str, folder: Path) -> str:
    there = "is left out of" if (folder / path).is_file() else "is not in"
    return f"{path} {there} the working folder {folder.resolve()}"


def _syntax(path: str, content: bytes) -> Fault | None:
    try:
        ast.parse(content, path)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        what = f"syntax error: {getattr(error, 'msg', error)}"
        return Fault(Where(path, line), what, "correct the line")
    return None
