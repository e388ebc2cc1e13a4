"""A day of scaling on this machine: nodes, demand and cost under mixed load, and what must hold of them.

Run: .venv/bin/python benchmarks/scale_day.py [--json] [--quick]

Draws the timeline into docs/scale_day.png (not with --quick). The world is in `day_world`; prices are the
made-up ones of its cluster file, and its idle timeout is 6 s.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from day_world import MAX, MOST
from harness import ROOT, Claim, main

from rayplat.cluster.session import down
from rayplat.console import plots
from rayplat.core.settings import Settings

WORLD = Path(__file__).with_name("day_world.py")
USD_PER_HOUR = {
    ("head", "on-demand"): 0.20,
    ("cpu", "on-demand"): 0.10,
    ("gpu", "on-demand"): 1.00,
    ("gpu", "spot"): 0.40,
}
MOST_WAIT_S = 60.0
COLORS = {"head": plots.FAINT, "cpu": plots.RIVAL, "gpu": plots.MODEL}
PNG = ROOT / "docs" / "scale_day.png"


def run_day(seed: int, cycles: int, timeout_s: float = 900) -> dict[str, Any]:
    """Live one day in a process of its own; its samples and sums."""
    with tempfile.TemporaryDirectory(prefix="rayplat-day-") as folder:
        home = Path(folder) / "home"
        # Serve's autoscaler hears of waiting requests every 10 s by default: too seldom for so short a day.
        often = {
            f"RAY_SERVE_{who}_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5" for who in ("HANDLE", "REPLICA")
        }
        try:
            done = subprocess.run(
                [sys.executable, WORLD, home, str(seed), str(cycles)],
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_s,
                cwd=ROOT,
                env={**os.environ, **often},
            )
        finally:
            down(Settings(home=home))  # what a day that was killed has left
    if done.returncode:
        raise RuntimeError(
            f"the day ended with {done.returncode}: {done.stdout[-500:]}\n{done.stderr[-6000:]}"
        )
    day: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return day


def rate(sample: dict[str, Any]) -> float:
    """What the nodes of a sample cost, USD an hour."""
    return sum(USD_PER_HOUR[tuple(node)] for node in sample["nodes"])


def counts(sample: dict[str, Any]) -> dict[str, int]:
    """The nodes of a sample by group."""
    return {group: sum(node[0] == group for node in sample["nodes"]) for group in MAX}


def longest_wait(samples: Sequence[dict[str, Any]]) -> float:
    """The longest time for which a demand waited that a node could have met, s."""
    longest, since = 0.0, None
    for sample in samples:
        if any(one["could_be_met"] for one in sample["waiting"]):
            since = sample["at"] if since is None else since
            longest = max(longest, sample["at"] - since)
        else:
            since = None
    return longest


def breaches(day: dict[str, Any]) -> list[str]:
    """Every invariant that a day broke."""
    found = []
    for sample in day["samples"]:
        over = {group: n for group, n in counts(sample).items() if n > MAX[group]}
        if over:
            found.append(f"at {sample['at']} s there were {over} nodes, more than {MAX}")
    wait = longest_wait(day["samples"])
    if wait > MOST_WAIT_S:
        found.append(f"a demand that could be met waited for {wait:.0f} s")
    if counts(day["samples"][-1]) != {"head": 1, "cpu": 0, "gpu": 0}:
        found.append(f"at the end there are {counts(day['samples'][-1])}")
    if max(counts(sample)["gpu"] for sample in day["samples"]) != MOST:
        found.append("the training never had all its GPUs: nothing was scaled")
    if not day["given_back"]:
        found.append("the training gave nothing back")
    if not day["answered"]:
        found.append("no caller got an answer")
    found += _training_breaches(day)
    if day["taken_in"] != day["produced"] or not day["produced"]:
        found.append(f"{day['taken_in']} of {day['produced']} records were taken in")
    return found


def _training_breaches(day: dict[str, Any]) -> list[str]:
    """Every step was taken, over all resizes, nodes that were taken and calls of the run."""
    found = []
    missing = set(range(1, max(day["steps"], default=0) + 1)) - set(day["steps"])
    if missing or not day["steps"]:
        found.append(f"the training has {len(day['steps'])} steps, and {sorted(missing)[:5]} are missing")
    if not all(one["stopped"] for one in day["trainings"]):
        found.append("a training ended without its checkpoint")
    return found


def notices(samples: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """When spot nodes were told, and when they were gone, s."""
    told, gone = [], []
    for before, after in pairwise(samples):
        if after["leaving"] > before["leaving"]:
            told.append(after["at"])
        if after["taken"] > before["taken"]:
            gone.append(after["at"])
    return told, gone


def at_moment(samples: Sequence[dict[str, Any]], at: float) -> dict[str, Any]:
    """The last sample until a moment."""
    return [sample for sample in samples if sample["at"] <= at][-1]


def draw(day: dict[str, Any], path: Path) -> None:
    """Nodes, GPUs and demand, and cost over the day, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    samples = day["samples"]
    at = [sample["at"] for sample in samples]
    with mpl.rc_context(plots._STYLE):
        figure = Figure(figsize=(9, 6.5), layout="constrained")
        FigureCanvasAgg(figure)
        nodes, held, cost = figure.subplots(3, 1, sharex=True)
        series = [[counts(s)[group] for s in samples] for group in MAX]
        nodes.stackplot(
            at, series, labels=list(MAX), colors=[COLORS[g] for g in MAX], step="post", alpha=0.85
        )
        nodes.set(ylabel="nodes (all of them: the top)", ylim=(0, sum(MAX.values())))
        told, gone = notices(samples)
        for moments, name, marker in ((told, "spot: notice", "v"), (gone, "spot: gone", "x")):
            height = [sum(counts(at_moment(samples, m)).values()) for m in moments]
            nodes.scatter(moments, height, marker=marker, s=36, color=plots.ALARM, label=name, zorder=3)
        for kind, name, color in (("run", "training", plots.MODEL), ("endpoint", "endpoint", plots.RIVAL)):
            held.step(at, [s["gpus"].get(kind, 0) for s in samples], where="post", color=color, label=name)
        asked = [sum(w["count"] for w in s["waiting"] if "GPU" in w["resources"]) for s in samples]
        held.fill_between(at, asked, step="post", color=plots.ALARM, alpha=0.25, linewidth=0, label="waiting")
        held.set(ylabel="GPUs", ylim=(0, MOST + 0.4))
        rates = [rate(s) for s in samples]
        cost.step(at, rates, where="post", color=plots.MODEL, label="as it was")
        always = sum(USD_PER_HOUR[g, "on-demand"] * n for g, n in MAX.items())
        cost.axhline(always, color=plots.FAINT, linestyle="--", linewidth=1, label="everything always on")
        cost.set(ylabel="USD an hour", xlabel="time, s", ylim=(0, always * 1.1), xlim=(0, at[-1]))
        for axes in (nodes, held, cost):
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, dpi=130)


def measure(quick: bool) -> Sequence[Claim]:
    seed = random.randrange(2**32)
    print(f"seed {seed}", file=sys.stderr)
    day = run_day(seed, 1 if quick else 3)
    broken = breaches(day)
    if broken:
        raise SystemExit("\n".join(broken))
    if not quick:
        draw(day, PNG)
    told = {key: day[key] for key in ("given_back", "answered", "failed", "idle_nodes_left_s")}
    steps = len(day["steps"])
    told |= {"steps": steps, "repeated": steps - len(set(day["steps"])), "taken": day["samples"][-1]["taken"]}
    print(json.dumps(told), file=sys.stderr)
    return [
        Claim(
            "scale_day_longest_wait_s", "s", [longest_wait(day["samples"])], note="a demand that could be met"
        )
    ]


if __name__ == "__main__":
    main(measure, "A day of scaling on this machine.")
