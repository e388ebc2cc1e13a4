"""The targets of `rayplat cluster render`, and whether the files in the folder are what the spec makes.

Knows which file each target is; it does not know what stands in one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from rayplat.cluster.render.aws import render_aws
from rayplat.cluster.render.gcp import render_gcp
from rayplat.cluster.render.kuberay import render_kuberay
from rayplat.cluster.render.local import render_local
from rayplat.cluster.spec import ClusterSpec
from rayplat.core.errors import NotFoundError, UserError


@dataclass(frozen=True, slots=True)
class Target:
    """One file that is made: its name, the part of the spec that it needs, and who makes it."""

    name: str
    section: str | None
    make: Callable[[ClusterSpec], str]

    @property
    def file(self) -> str:
        """The file's name beside the spec."""
        return f"{self.name}.yaml"


TARGETS = {
    target.name: target
    for target in (
        Target("aws", "aws", render_aws),
        Target("gcp", "gcp", render_gcp),
        Target("kuberay", "kubernetes", render_kuberay),
        Target("local", None, render_local),
    )
}


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A target's file: where it is, what it should hold, and what it holds now (None: it is not there)."""

    target: str
    path: Path
    text: str
    found: str | None

    @property
    def fresh(self) -> bool:
        """Whether the file is what the spec makes."""
        return self.text == self.found

    def difference(self, lines: int = 20) -> str:
        """The first lines of what would change, as a unified diff."""
        before = (self.found or "").splitlines(keepends=True)
        after = self.text.splitlines(keepends=True)
        found = list(unified_diff(before, after, str(self.path), f"{self.path} (rendered)", n=1))
        return "".join(found[:lines]) + ("…\n" if len(found) > lines else "")


def targets_of(spec: ClusterSpec, names: Iterable[str] = ()) -> list[Target]:
    """The named targets, or all that the spec has a part for.

    Raises:
        NotFoundError: there is no such target.
        UserError: the spec has no part for a target that is named.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in TARGETS:
            raise NotFoundError(f"there is no target {name!r}", f"there is: {', '.join(TARGETS)}")
        section = TARGETS[name].section
        if section and getattr(spec, section) is None:
            raise UserError(
                f"the cluster file has no part {section!r}, and {name} is made from it",
                f"add `{section}:` to the cluster file; docs/cluster.md shows one",
            )
    if chosen:
        return [TARGETS[name] for name in chosen]
    return [t for t in TARGETS.values() if t.section is None or getattr(spec, t.section) is not None]


def render_targets(spec: ClusterSpec, folder: Path, names: Iterable[str] = ()) -> list[RenderedFile]:
    """What the targets' files should hold, beside what they hold; nothing is written.

    Raises:
        NotFoundError, UserError: as `targets_of` does.
    """
    found = []
    for target in targets_of(spec, names):
        path = folder / target.file
        now = path.read_text(encoding="utf-8") if path.exists() else None
        found.append(RenderedFile(target.name, path, target.make(spec), now))
    return found


def write(file: RenderedFile) -> None:
    """Write a target's file whole, or not at all."""
    draft = file.path.with_suffix(".draft")
    draft.write_text(file.text, encoding="utf-8")
    draft.replace(file.path)
