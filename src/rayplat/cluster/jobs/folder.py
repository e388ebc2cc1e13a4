"""The working folder as one package: the files that a job needs, under a digest of their content.

Knows which files are taken and why others are not, and that the same content has the same digest on
every machine; it does not know where a package goes.
"""

import hashlib
import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from rayplat.core.errors import IntegrityError, UserError

NEVER = (
    ".git/",
    ".hg/",
    ".svn/",
    ".venv/",
    "venv/",
    ".tox/",
    ".nox/",
    "node_modules/",
    ".rayplat/",
    ".bench/",
    "mlruns/",
    "__pycache__/",
    "*.py[co]",
    "*.egg-info/",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".import_linter_cache/",
    ".hypothesis/",
    ".ipynb_checkpoints/",
    ".coverage",
    ".DS_Store",
)
"""What no job needs, in the form of a .gitignore."""

_IGNORE_FILES = (".gitignore", ".rayignore")
_MIB = 2**20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold: equal content, equal bytes


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file of a package: its path with forward slashes, whether it may be run, and its bytes."""

    path: str
    executable: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class Package:
    """The content of a folder. `left_out` are files that were too large, with their sizes in bytes."""

    digest: str
    files: tuple[PackedFile, ...]
    left_out: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """How a cluster calls it."""
        return package_name(self.digest)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(file.content) for file in self.files)

    def has(self, path: str) -> bool:
        """Whether a file is inside."""
        return any(file.path == path for file in self.files)

    def to_bytes(self) -> bytes:
        """As a zip; the same content gives the same bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in self.files:
                info = zipfile.ZipInfo(file.path, _EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = (0o100755 if file.executable else 0o100644) << 16
                archive.writestr(info, file.content)
        return buffer.getvalue()


def package_name(digest: str) -> str:
    """How a cluster calls a package; Ray knows its own packages by this beginning."""
    return f"_ray_pkg_{digest[:32]}.zip"


def pack(folder: Path, file_mib: int, folder_mib: int, without: Iterable[Path] = ()) -> Package:
    """Read what a job needs of a folder.

    Taken is every file but what NEVER names, what a .gitignore or .rayignore in its folder or above
    names, symbolic links to folders, and single files over `file_mib`, which are told in `left_out`.

    Args:
        without: folders that are left out whatever they are called, such as the platform's home.

    Raises:
        UserError: there is no such folder, it is over `folder_mib`, or a file in it cannot be read.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise UserError(f"there is no folder {folder}", "give --working-dir a folder that exists")
    out = {path.resolve() for path in without}
    files: list[PackedFile] = []
    left_out: list[tuple[str, int]] = []
    total = 0
    for path in _walk(root, root, [(root, GitIgnoreSpec.from_lines(NEVER))], out):
        name = path.relative_to(root).as_posix()
        try:
            size = path.stat().st_size
            if size > file_mib * _MIB:
                left_out.append((name, size))
                continue
            total += size
            if total > folder_mib * _MIB:
                raise _too_large(root, files, folder_mib)
            name.encode()
            files.append(PackedFile(name, os.access(path, os.X_OK), path.read_bytes()))
        except (OSError, UnicodeEncodeError) as error:
            raise UserError(
                f"{path!s:.200} cannot be packed: {error}", "mend or remove it, or name it in a .rayignore"
            ) from error
    return packed(files, left_out)


def packed(files: Iterable[PackedFile], left_out: Iterable[tuple[str, int]] = ()) -> Package:
    """Some files as a package."""
    ordered = sorted(files, key=lambda file: file.path)
    return Package(_digest(ordered), tuple(ordered), tuple(sorted(left_out)))


def unpack(content: bytes, digest: str) -> Package:
    """A package from its zip.

    Raises:
        IntegrityError: it does not hold what the digest says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = tuple(
                PackedFile(info.filename, bool(info.external_attr >> 16 & 0o100), archive.read(info))
                for info in archive.infolist()
            )
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _damaged(digest, str(error)) from error
    found = _digest(files)
    if found != digest:
        raise _damaged(digest, f"its content has the digest {found[:16]}…")
    return Package(digest, files)


def _damaged(digest: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"the kept working folder {digest[:16]}… is not what was written: {why}",
        "submit the job anew from the folder itself",
    )


def _digest(files: Iterable[PackedFile]) -> str:
    whole = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.path):
        own = hashlib.sha256(file.content).hexdigest()
        whole.update(f"{file.path}\0{int(file.executable)}\0{own}\n".encode())
    return whole.hexdigest()


def _walk(root: Path, at: Path, rules: list[tuple[Path, GitIgnoreSpec]], out: set[Path]) -> Iterator[Path]:
    """The files below `at` that no rule names, in the order of their names."""
    own = [(at, spec) for name in _IGNORE_FILES if (spec := _rules_of(at / name)) is not None]
    rules = [*rules, *own]
    for entry in sorted(at.iterdir()):
        folder = entry.is_dir()
        if any(_names(spec, base, entry, folder) for base, spec in rules) or entry in out:
            continue
        if folder and not entry.is_symlink():
            yield from _walk(root, entry, rules, out)
        elif entry.is_file():  # sockets, pipes and links to nowhere are no files
            yield entry


def _names(spec: GitIgnoreSpec, base: Path, entry: Path, folder: bool) -> bool:
    return spec.match_file(entry.relative_to(base).as_posix() + ("/" if folder else ""))


def _rules_of(path: Path) -> GitIgnoreSpec | None:
    try:
        return GitIgnoreSpec.from_lines(path.read_text(errors="replace").splitlines())
    except OSError:
        return None


def _too_large(root: Path, files: list[PackedFile], folder_mib: int) -> UserError:
    by_top: dict[str, int] = {}
    for file in files:
        top = file.path.partition("/")[0]
        by_top[top] = by_top.get(top, 0) + len(file.content)
    largest = sorted(by_top.items(), key=lambda item: -item[1])[:3]
    told = ", ".join(f"{name} {size / _MIB:.1f} MiB" for name, size in largest) or "one file"
    return UserError(
        f"{root} holds over {folder_mib} MiB that would be sent; the most so far: {told}",
        "name what the job does not need in a .rayignore (as in a .gitignore), or raise jobs.folder_mib",
    )
