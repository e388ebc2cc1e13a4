"""From an address such as `examples/flights` or `package.module` to a validated project.

Knows how an address is found, under which name its file is imported, and how a failed import
becomes a fault with its line; what makes a project good is known in `validate`.
"""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType

from rayplat.core.errors import Fault, ProjectError, RayplatError, Where
from rayplat.core.project.project import Project
from rayplat.core.project.validate import validate

_FILES = ("project.py", "__init__.py")
_ROOT_MARKS = ("pyproject.toml", "rayplat.toml", ".git")


@dataclass(frozen=True, slots=True)
class _Place:
    """The file of a project, and the folder against which its dotted name is made."""

    file: Path
    root: Path

    @property
    def folder(self) -> Path | None:
        """The folder that is the project, for a project of several files."""
        return self.file.parent if self.file.name in _FILES else None


def load_project(address: str) -> Project:
    """Import a project's file anew and validate the project as a whole.

    Args:
        address: a folder with `project.py` or `__init__.py`, a `.py` file (with or without the
            suffix), both absolute or relative to the working folder or to an entry of `sys.path`;
            or `package.module`. The same address gives a fresh, equal project each time. On a Ray
            worker it means the same: relative to the job's working folder.

    Raises:
        ProjectError: with every fault that was found, each with its file and line.
    """
    place = _find(address)
    module = _import(address, place)
    project = _only_project(address, place, module)
    faults = validate(project)
    if faults:
        raise ProjectError(address, faults)
    project.address = address
    return project


def _find(address: str) -> _Place:
    path = Path(address).expanduser()
    if not address or "\0" in address:
        raise ProjectError(address, [_nothing_there(address)])
    if path.is_absolute():
        file = _file_of(path)
        if file:
            return _Place(file, _root_of(file))
        raise ProjectError(address, [_nothing_there(address)])
    relative = [path] if "/" in address or address.endswith(".py") else [path, Path(*address.split("."))]
    for base in [Path.cwd(), *(Path(entry) for entry in sys.path if entry)]:
        for candidate in relative:
            file = _file_of((base / candidate).absolute())
            if file and file.is_relative_to(base.resolve()):
                return _Place(file, base.resolve())
            if file:
                return _Place(file, _root_of(file))
    raise ProjectError(address, [_nothing_there(address)])


def _nothing_there(address: str) -> Fault:
    return Fault(
        None,
        f"there is no project at {address!r} (looked from {Path.cwd()})",
        "give a folder with project.py or __init__.py, a .py file, or package.module",
    )


def _file_of(path: Path) -> Path | None:
    candidates = [path / name for name in _FILES] if path.is_dir() else [path]
    if path.name:  # a file may stand beside a folder of the same name that holds something else
        candidates.append(path.with_name(f"{path.name}.py"))
    for candidate in candidates:
        if candidate.suffix == ".py" and candidate.is_file():
            return candidate.resolve()
    return None


def _root_of(file: Path) -> Path:
    """The folder that imports start from, for a file that was named by an absolute path."""
    if file.is_relative_to(Path.cwd().resolve()):
        return Path.cwd().resolve()
    start = file.parent.parent if file.name in _FILES else file.parent
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in _ROOT_MARKS):
            return folder
    while (start / "__init__.py").exists():
        start = start.parent
    return start


def _import(address: str, place: _Place) -> ModuleType:
    if str(place.root) not in sys.path:
        sys.path.insert(0, str(place.root))
    importlib.invalidate_caches()
    _forget(place)
    try:
        return _execute(_name_of(place), place)
    except SyntaxError as error:
        where = Where(error.filename or str(place.file), error.lineno or 1)
        raise ProjectError(
            address, [Fault(where, f"syntax error: {error.msg}", "correct the line")]
        ) from None
    except (Exception, SystemExit) as error:
        raise ProjectError(address, [_fault_of(error, place)]) from error


def _forget(place: _Place) -> None:
    """Drop the project's own modules, so that its declarations are made anew and not twice."""
    for name, module in sys.modules.copy().items():
        file = getattr(module, "__file__", None)
        if name == "__main__" or not file or not file.endswith(".py"):
            continue
        path = Path(file)
        if path == place.file or (place.folder and path.is_relative_to(place.folder)):
            del sys.modules[name]


def _name_of(place: _Place) -> str:
    """The name under which Python itself finds the file, so that other processes find it, too.

    A file that Python would not find so (a folder with a dot, a name that an installed package has)
    gets a name that is derived from its path, the same in every process.
    """
    relative = place.file.relative_to(place.root).with_suffix("")
    parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
    natural = ".".join(parts)
    if parts and parts[0] not in sys.stdlib_module_names and not any("." in part for part in parts):
        try:
            spec = importlib.util.find_spec(natural)
        except (ImportError, ValueError, AttributeError):
            spec = None
        if spec is not None and spec.origin and Path(spec.origin).resolve() == place.file:
            return natural
    digest = hashlib.sha256(str(place.folder or place.file).encode()).hexdigest()[:12]
    package = f"rayplat_project_{digest}"
    return f"{package}.{place.file.stem}" if place.file.name == "project.py" else package


def _execute(name: str, place: _Place) -> ModuleType:
    package, _, last = name.rpartition(".")
    if package and package not in sys.modules and package.startswith("rayplat_project_"):
        parent = ModuleType(package)
        parent.__path__ = [str(place.file.parent)]
        sys.modules[package] = parent
    search = [str(place.file.parent)] if place.file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, place.file, submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise ImportError(f"{place.file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    if package in sys.modules:
        setattr(sys.modules[package], last, module)
    return module


def _fault_of(error: BaseException, place: _Place) -> Fault:
    where = _last_own_line(error.__traceback__, place)
    if isinstance(error, RayplatError):
        return Fault(where, error.what, error.mend or "correct the line")
    text = str(error) or "no message"
    mend = "correct the line; the project's file is run when it is loaded"
    if isinstance(error, ModuleNotFoundError):
        mend = f"install the package {error.name!r}, or correct the import"
    return Fault(where, f"{type(error).__name__}: {text}", mend)


def _last_own_line(trace: TracebackType | None, place: _Place) -> Where:
    own = [
        Where(frame.filename, frame.lineno or 1)
        for frame in traceback.extract_tb(trace)
        if Path(frame.filename) == place.file
        or (place.folder and Path(frame.filename).is_relative_to(place.folder))
    ]
    return own[-1] if own else Where(str(place.file), 1)


def _only_project(address: str, place: _Place, module: ModuleType) -> Project:
    found = {id(value): value for value in vars(module).values() if isinstance(value, Project)}
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        fault = Fault(
            Where(str(place.file), 1),
            "the file declares no project",
            'write: flights = rp.Project("flights", owner="…") at the top level',
        )
        raise ProjectError(address, [fault])
    raise ProjectError(
        address,
        [
            Fault(p.where, f"the file has {len(found)} projects; this one is {p.name!r}", "keep one a file")
            for p in found.values()
        ],
    )
