"""Replicas over GPU nodes that are not there yet: 0 -> 3 -> 0 under load, and no request lost.

Run: .venv/bin/python benchmarks/replicas_gpu.py [--json] [--quick]

Draws load, replicas, nodes and p99 into docs/replicas_gpu.png (not with --quick). The world is in
`replicas_gpu_world`; its nodes are simulated on this machine.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from harness import ROOT, Claim, main
from replicas_gpu_world import MOST

from rayplat.console import plots

WORLD = Path(__file__).with_name("replicas_gpu_world.py")
PNG = ROOT / "docs" / "replicas_gpu.png"


def live(timeout_s: float = 300) -> dict[str, Any]:
    """One run in a process of its own: its samples and sums."""
    with tempfile.TemporaryDirectory(prefix="rayplat-replicas-") as folder:
        done = subprocess.run(
            [sys.executable, WORLD, Path(folder) / "home"],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            cwd=ROOT,
        )
    if done.returncode:
        raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr[-5000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def breaches(run: dict[str, Any]) -> list[str]:
    """Every promise that a run broke."""
    found = []
    samples = run["samples"]
    if run["failed"] or not run["answered"]:
        found.append(f"{run['failed']} requests failed beside {run['answered']}: {run['failures']}")
    if max(one["nodes"] for one in samples) != MOST or max(one["replicas"] for one in samples) != MOST:
        found.append(f"there were never {MOST} replicas on as many nodes")
    ends = [samples[0], samples[-1]]
    if any(one["nodes"] or one["replicas"] or one["bridges"] for one in ends):
        found.append(f"it did not begin and end with nothing: {ends}")
    return found


def draw(run: dict[str, Any], path: Path) -> None:
    """Load, replicas, nodes and p99 over the run, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    samples = run["samples"]
    at = [one["at"] for one in samples]
    with mpl.rc_context(plots._STYLE):
        figure = Figure(figsize=(9, 7.5), layout="constrained")
        FigureCanvasAgg(figure)
        load, replicas, nodes, late = figure.subplots(4, 1, sharex=True)
        load.fill_between(at, [one["callers"] for one in samples], step="post", color=plots.FAINT)
        load.set(ylabel="callers")
        replicas.stackplot(
            at,
            [[one["replicas"] for one in samples], [one["bridges"] for one in samples]],
            labels=["on their GPU", "standby"],
            colors=[plots.MODEL, plots.RIVAL],
            step="post",
            alpha=0.85,
        )
        wanted = [one["target"] for one in samples]
        replicas.step(at, wanted, where="post", color=plots.ALARM, linewidth=1, label="wanted")
        replicas.set(ylabel="replicas", ylim=(0, MOST + 1.4))
        replicas.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        nodes.fill_between(at, [one["nodes"] for one in samples], step="post", color=plots.MODEL, alpha=0.6)
        nodes.set(ylabel="GPU nodes", ylim=(0, MOST + 0.4))
        timed = [(one["at"], 1000 * one["p99_s"]) for one in samples if one["p99_s"] is not None]
        late.plot(*zip(*timed, strict=True), color=plots.MODEL, linewidth=1)
        late.set(ylabel="p99, ms (log)", yscale="log", xlabel="time, s", xlim=(0, at[-1]))
        figure.savefig(path, dpi=130)


def measure(quick: bool) -> Sequence[Claim]:
    run = live()
    broken = breaches(run)
    if not quick:
        draw(run, PNG)
    if broken:
        raise SystemExit("\n".join(broken))
    told = {key: run[key] for key in ("answered", "failed", "again", "first_s", "all_s")}
    print(json.dumps(told), file=sys.stderr)
    return [
        Claim("replicas_gpu_first_s", "s", [run["first_s"]], note="the first answer of 3 callers, from zero"),
        Claim("replicas_gpu_all_s", "s", [run["all_s"]], note=f"{MOST} replicas on as many new GPU nodes"),
    ]


if __name__ == "__main__":
    main(measure, "Replicas over GPU nodes that are not there yet.")
