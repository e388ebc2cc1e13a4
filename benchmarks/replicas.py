"""Replicas that follow the load: how soon a new one answers, how soon one is gone, and first bytes from zero.

Run: .venv/bin/python benchmarks/replicas.py [--json] [--quick]

Ours beside Ray Serve tuned and with its defaults, each on a Ray of its own. All are set up at once, and then
measured one after the other while the others are idle; the load rises and falls twice. With --quick
once, and without the defaults, which alone take 42 s, a delay that is set: they are raised once, and not
lowered. A replica of Ray Serve imports torch when it starts, as the model of ours needs it. The worlds are in
`replicas_world`.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import ROOT, Claim, main

from rayplat.cluster.session import down
from rayplat.core.settings import Settings

WORLD = Path(__file__).with_name("replicas_world.py")
OFTEN = {f"RAY_SERVE_{who}_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.1" for who in ("HANDLE", "REPLICA")}
ROUNDS = 2
WITHIN_S = 215.0


def live(kinds: Sequence[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Worlds in processes of their own, and what was measured of each."""
    with tempfile.TemporaryDirectory(prefix="rayplat-replicas-") as place:
        turn = Path(place, "turn")
        turn.touch()
        begun = time.monotonic()
        running = {kind: _begun(kind, rounds, turn) for kind in kinds}
        try:
            told: dict[str, str] = {}
            for kind, one in running.items():
                try:
                    told[kind], _ = one.communicate(timeout=max(0.0, begun + WITHIN_S - time.monotonic()))
                except subprocess.TimeoutExpired as late:
                    logs = {name: Path(place, f"{name}.log").read_text()[-1500:] for name in running}
                    raise RuntimeError(f"{kind} took over {WITHIN_S:g} s; where each was: {logs}") from late
                print(kind, told[kind].strip(), file=sys.stderr, flush=True)
        finally:
            for kind, one in running.items():
                if one.poll() is None:
                    one.kill()
                    down(Settings(home=Path(place, kind)))
        for kind, one in running.items():
            if one.returncode:
                log = Path(place, f"{kind}.log").read_text()
                raise RuntimeError(f"{kind} ended with {one.returncode}: {log[-4000:]}")
    return {kind: json.loads(told[kind].splitlines()[-1]) for kind in kinds}


def _begun(kind: str, rounds: int, turn: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, **(OFTEN if kind == "ray_serve_tuned" else {})}
    with turn.with_name(f"{kind}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, WORLD, kind, turn.with_name(kind), str(rounds), turn],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=environment,
        )


def measure(quick: bool) -> Sequence[Claim]:
    kinds = ["rayplat", "ray_serve_tuned"] + ([] if quick else ["ray_serve"])
    found = live(kinds, 1 if quick else ROUNDS)
    ours = found["rayplat"]
    if ours["failed"]:
        raise SystemExit(f"{ours['failed']} of {ours['answered']} requests failed: {ours['failures']}")

    def peers(key: str) -> dict[str, list[float]]:
        return {kind: found[kind][key] for kind in kinds[1:] if key in found[kind]}

    memory = f"a standby of {ours['standby_mib']} MiB is held"
    asked = f"no request failed, {ours['again']} of {ours['answered']} were asked again as told"
    return [
        Claim("replica_up_s", "s", ours["up_s"], peers("up_s"), note=memory),
        Claim("replica_down_s", "s", ours["down_s"], peers("down_s"), note=asked),
        Claim(
            "first_byte_from_zero_s",
            "s",
            ours["zero_s"],
            note=f"{ours['load_s']:.2f} s of it load the model; {memory}",
        ),
    ]


if __name__ == "__main__":
    main(measure, "Replicas that follow the load.")
