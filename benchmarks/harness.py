"""Side by side: rayplat and its peers in one run, interleaved, and what comes out as claims.

Knows how samples are taken, compared and printed; it does not know what is measured. A ratio over 1
means that rayplat is better, whichever direction is better for the unit. `limit` is the physical
limit measured in the same run (the same work with nothing in between), where there is one.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".bench"


@dataclass(frozen=True)
class Claim:
    """Samples of one measured thing. The peers' names are in snake case."""

    name: str
    unit: str
    rayplat: Sequence[float]
    peers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    higher_is_better: bool = False
    limit: float | None = None
    note: str = ""

    def ratio(self, peer: str) -> float:
        """How many times better rayplat is than a peer, by the medians."""
        ours, theirs = median(self.rayplat), median(self.peers[peer])
        better, worse = (ours, theirs) if self.higher_is_better else (theirs, ours)
        return better / worse if worse else float("inf")

    def as_dict(self) -> dict[str, Any]:
        """The claim as its one line of JSON holds it."""
        return {
            "claim": self.name,
            "unit": self.unit,
            "rayplat": _short(median(self.rayplat)),
            "peers": {name: _short(median(values)) for name, values in self.peers.items()},
            "ratio": {name: _short(self.ratio(name)) for name in self.peers},
            "limit": None if self.limit is None else _short(self.limit),
            "runs": len(self.rayplat),
            "machine": machine(),
        }


def interleave(
    candidates: Mapping[str, Callable[[], float]], runs: int, within_s: float | None = None
) -> dict[str, list[float]]:
    """Take `runs` samples of each candidate, in turns, each round beginning with the next one.

    What else the machine does then falls on all of them alike. One round before is thrown away: it
    warms caches. `within_s` bounds the time: no round (after the first) begins that would end later.
    """
    names = list(candidates)
    samples: dict[str, list[float]] = {name: [] for name in names}
    begin = time.perf_counter()
    for turn in range(-1, runs):
        spent = time.perf_counter() - begin
        if within_s is not None and turn > 0 and spent + spent / (turn + 1) > within_s:
            break
        for index in range(len(names)):
            name = names[(index + max(turn, 0)) % len(names)]
            value = candidates[name]()
            if turn >= 0:
                samples[name].append(value)
    return samples


def cpu_seconds(argv: Sequence[str | Path]) -> float:
    """User and system CPU of a command and of the children that it waited for, s."""
    child = subprocess.Popen([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    told = child.stderr.read()
    child.stderr.close()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{argv} ended with {child.returncode}: {told.decode()[-2000:]}")
    return usage.ru_utime + usage.ru_stime


def printed_seconds(code: str, python: str | Path = sys.executable) -> float:
    """The number that a Python program prints."""
    return float(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)


def peer_python(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of a peer's own environment under .bench/, made when it is first needed."""
    folder = PEERS / name
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        stamp.write_text(wanted)
    return python


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import psutil

    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def table(claims: Sequence[Claim]) -> str:
    """The claims for people, as a Markdown table: medians, and the range in brackets."""
    lines = [
        "| claim | unit | rayplat | peers | times better | limit | runs |",
        "|---|---|---|---|---|---|---|",
    ]
    for claim in claims:
        peers = "<br>".join(f"{name} {spread(values)}" for name, values in claim.peers.items()) or "-"
        ratios = "<br>".join(f"{claim.ratio(name):.1f} x {name}" for name in claim.peers) or "-"
        limit = "-" if claim.limit is None else f"{claim.limit:.3g}"
        head = f"`{claim.name}`" + (f" ({claim.note})" if claim.note else "")
        ours = spread(claim.rayplat)
        lines.append(
            f"| {head} | {claim.unit} | {ours} | {peers} | {ratios} | {limit} | {len(claim.rayplat)} |"
        )
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """`median [least, most]`; the value alone where there is only one."""
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def main(measure: Callable[[bool], Sequence[Claim]], about: str) -> None:
    """Run a benchmark script: `--json` prints a line a claim, `--quick` ends within 50 s."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="print one line of JSON a claim")
    parser.add_argument("--quick", action="store_true", help="fewer runs, and nothing that takes minutes")
    parser.add_argument("--table", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    claims = measure(options.quick)
    if options.table:
        options.table.write_text(table(claims) + "\n")
    if options.json:
        for claim in claims:
            print(json.dumps(claim.as_dict()), flush=True)
    else:
        print(table(claims))
