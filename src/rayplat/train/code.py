"""Which code a run was: the project's files, the commit they come from, and the libraries.

Knows how to read them at the driver; it does not know what is done with them (`trainer`).
"""

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rayplat.core.project.project import Project
from rayplat.registry.manifest import CodePin

_PACKAGES = (
    "rayplat",
    "torch",
    "accelerate",
    "ray",
    "numpy",
    "polars",
    "pyarrow",
    "scikit-learn",
    "safetensors",
)
_PACKAGE_FILES = ("project.py", "__init__.py")
_GIT_TIMEOUT_S = 10
_MOST_DIFF = 1 << 20


def pin_code(project: Project) -> CodePin:
    """The commit and the digest of a project's own files.

    A project that is a folder has all its Python files digested, by their paths in it; one that is a
    file, that file. `git_commit` is `unknown` outside a repository or without git.
    """
    file = Path(project.where.file)
    folder = file.parent
    files = sorted(folder.rglob("*.py")) if file.name in _PACKAGE_FILES else [file]
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    commit = _git(folder, "rev-parse", "HEAD")
    return CodePin(
        git_commit=commit or "unknown",
        dirty=bool(commit and _git(folder, "status", "--porcelain", "--", ".")),
        project=project.address or str(file),
        project_sha256=digest.hexdigest(),
    )


def code_diff(project: Project) -> str:
    """How the project's folder differs from its commit, as git tells it; empty where there is no git.

    Files that git does not know are named, not shown: they may be data.
    """
    folder = Path(project.where.file).parent
    changed = _git(folder, "diff", "HEAD", "--no-color", "--", ".")
    unknown = _git(folder, "ls-files", "--others", "--exclude-standard", "--", ".")
    told = "".join(f"untracked: {name}\n" for name in unknown.splitlines())
    return (changed + "\n" if changed else "")[:_MOST_DIFF] + told


def environment() -> dict[str, str]:
    """The versions of Python, the platform and the libraries that decide a result."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
