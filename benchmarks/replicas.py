"""Replicas that follow the load: how soon a new one answers, how soon one is gone, and first bytes from zero.

Run: .venv/bin/python benchmarks/replicas.py [--json] [--quick]

Ours beside Ray Serve with its defaults and tuned, each on a Ray of its own, in turns; with --quick once, and
without the defaults, which alone take 42 s. The worlds are in `replicas_world`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import ROOT, Claim, main

WORLD = Path(__file__).with_name("replicas_world.py")
OFTEN = {f"RAY_SERVE_{who}_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.1" for who in ("HANDLE", "REPLICA")}
RUNS = 3


def live(kind: str) -> dict[str, Any]:
    """One world in a process of its own, and what was measured of it."""
    environment = {**os.environ, **(OFTEN if kind == "ray_serve_tuned" else {})}
    with tempfile.TemporaryDirectory(prefix="rayplat-replicas-") as home:
        done = subprocess.run(
            [sys.executable, WORLD, kind, home],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            cwd=ROOT,
            env=environment,
        )
    if done.returncode:
        raise RuntimeError(f"{kind} ended with {done.returncode}: {done.stderr[-4000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(kind, json.dumps(told), file=sys.stderr)
    return told


def measure(quick: bool) -> Sequence[Claim]:
    kinds = ["rayplat", "ray_serve_tuned"] + ([] if quick else ["ray_serve"])
    runs = 1 if quick else RUNS
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for turn in range(runs):
        for kind in kinds:
            # The defaults' 42 s are a delay that is set: once is enough.
            if kind != "ray_serve" or turn == 0:
                found[kind].append(live(kind))
    failed = sum(one["failed"] for one in found["rayplat"])
    if failed:
        raise SystemExit(f"{failed} requests failed: {found['rayplat']}")

    def of(key: str, kind: str = "rayplat") -> list[float]:
        return [one[key] for one in found[kind] if key in one]

    def peers(key: str) -> dict[str, list[float]]:
        return {kind: of(key, kind) for kind in kinds[1:] if of(key, kind)}

    memory, load = max(of("standby_mib")), max(of("load_s"))
    return [
        Claim("replica_up_s", "s", of("up_s"), peers("up_s"), note=f"a standby of {memory} MiB is held"),
        Claim("replica_down_s", "s", of("down_s"), peers("down_s"), note="no request failed"),
        Claim(
            "first_byte_from_zero_s",
            "s",
            of("zero_s"),
            note=f"{load:.2f} s of it load the model; a standby of {memory} MiB is held",
        ),
    ]


if __name__ == "__main__":
    main(measure, "Replicas that follow the load.")
