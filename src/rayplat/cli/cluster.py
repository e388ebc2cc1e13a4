"""`rayplat cluster`: the cluster file, what is made from it, and the proof that it holds.

Knows how specs, files and findings are shown; what a target is made of is known in `cluster.render`,
what is checked in `cluster.check`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import fields, table

if TYPE_CHECKING:
    from rayplat.cluster.check.finding import Finding
    from rayplat.cluster.render.policies.document import PolicyDocument
    from rayplat.cluster.render.targets import RenderedFile
    from rayplat.cluster.spec import ClusterSpec

app = group("The cluster file: show it, render it, check it, print its policies.")

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TARGET]...", help="aws, gcp, kuberay, local; all if none is named.", show_default=False
    ),
]


def _spec(call: Call) -> "tuple[ClusterSpec, Path]":
    """The cluster file that the settings name, and the folder that it is in."""
    from rayplat.cluster.spec import load_spec

    path = Path(call.settings().ray.spec)
    return load_spec(path), path.parent


@command(app)
def show(call: Call) -> None:
    """Show the groups of the cluster file: what a node has, how many there are, and their machines."""
    spec, _ = _spec(call)
    call.show(spec, lambda: _shown(spec))


@command(app)
def render(
    call: Call,
    targets: Targets = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit code 1 if a file is stale.", show_default=False),
    ] = False,
) -> None:
    """Write the launcher files beside the cluster file; the same spec makes the same bytes."""
    from rayplat.cluster.render.targets import render_targets, write

    spec, folder = _spec(call)
    files = render_targets(spec, folder, targets or ())
    stale = [file for file in files if not file.fresh]
    if not check:
        for file in stale:
            write(file)
    rows = [{"target": f.target, "file": f.path, "state": _state(f, check)} for f in files]
    call.show(rows, lambda: _rendered_text(rows, stale if check else []))
    if check and stale:
        raise typer.Exit(1)


@command(app, "check")
def check_files(call: Call, targets: Targets = None) -> None:
    """Prove offline that the files are fresh, accepted, closed to the world, and start real nodes' doubles.

    Exit code 1: a check failed. Nothing is asked of a cloud: AWS and GCP are simulated in this process.
    """
    from rayplat.cluster.check.run import check_targets

    spec, folder = _spec(call)
    if spec.aws and (not targets or "aws" in targets):
        call.note("starting nodes on a simulated AWS; that takes about ten seconds")
    findings = check_targets(spec, folder, targets or ())
    call.show(findings, lambda: _findings_text(findings))
    if any(finding.state == "failed" for finding in findings):
        raise typer.Exit(1)


@command(app)
def policy(
    call: Call,
    target: Annotated[str, typer.Argument(help="aws, gcp or kubernetes.", show_default=False)],
) -> None:
    """Print the least-privilege policies that an account needs, and the commands that put them into force."""
    from rayplat.cluster.render.policies.targets import policies

    spec, _ = _spec(call)
    documents = policies(spec, target)
    call.show(documents, lambda: _policies_text(documents))


def _shown(spec: "ClusterSpec") -> Any:
    from rich.console import Group

    rows = []
    for name, one in spec.groups.items():
        spot = f"{one.spot.share:.0%}, {one.spot.fallback}" if one.spot.share else "-"
        gpus = f"{one.gpus} {one.accelerator}" if one.gpus else "-"
        number = f"{one.min}-{one.max}" if one.kind != "head" else "1"
        size = (one.cpus, f"{one.memory_gib:g} GiB", gpus, f"{one.disk_gib} GiB")
        machines = (_machine(spec, name, "aws"), _machine(spec, name, "gcp"))
        rows.append((name, *size, number, spot, f"{spec.idle_timeout_of(name):g} s", *machines))
    columns = ["group", "CPUs", "memory", "GPUs", "disk", "nodes", "spot", "idle", "aws", "gcp"]
    about = {
        "name": spec.name,
        "ray": f"{spec.ray.version}, Python {spec.ray.python}",
        "targets": ", ".join(n for n in ("aws", "gcp", "kubernetes") if getattr(spec, n)) or "local alone",
        "teams": ", ".join(spec.teams),
        "budgets": ", ".join(f"{b.scope} {b.name}: {b.limit_usd:g} $ per {b.per}" for b in spec.budgets),
        "open to": ", ".join([*spec.network.ssh_from, *spec.network.dashboard_from]) or "nobody outside",
    }
    return Group(fields(about), table(columns, rows, "groups"))


def _machine(spec: "ClusterSpec", name: str, cloud: Any) -> str:
    from rayplat.cluster.spec.catalogue import choose

    group_ = spec.groups[name]
    if getattr(spec, cloud) is None or getattr(group_, cloud).skip:
        return "-"
    return choose(group_, cloud).type


def _state(file: "RenderedFile", check: bool) -> str:
    if file.fresh:
        return "fresh"
    if check:
        return "missing" if file.found is None else "stale"
    return "written"


def _rendered_text(rows: list[dict[str, Any]], stale: "list[RenderedFile]") -> Any:
    from rich.console import Group
    from rich.text import Text

    shown = table(["target", "file", "state"], [list(row.values()) for row in rows])
    differences = [Text(file.difference()) for file in stale]
    mend = [Text(f"{len(stale)} of {len(rows)} files would change: run `rayplat cluster render`")]
    return Group(shown, *differences, *(mend if stale else []))


def _findings_text(findings: "list[Finding]") -> Any:
    from rich.console import Group
    from rich.text import Text

    rows = [(f.target, f.check, f.state, f"{f.what}; mend: {f.mend}" if f.mend else f.what) for f in findings]
    failures = sum(f.state == "failed" for f in findings)
    skips = sum(f.state == "skipped" for f in findings)
    end = f"{len(findings)} checks, {failures} failed, {skips} skipped"
    return Group(table(["target", "check", "outcome", "what"], rows), Text(end))


def _policies_text(documents: "list[PolicyDocument]") -> Any:
    import json

    from rich.console import Group
    from rich.text import Text

    parts = []
    for one in documents:
        body = json.dumps(one.body, indent=2, ensure_ascii=False)
        commands = "\n".join(f"  {line}" for line in one.commands)
        parts.append(Text(f"== {one.name}: {one.purpose}\n{body}\n{commands}\n"))
    return Group(*parts, Text("FILE stands for a file that holds the document above the command."))
