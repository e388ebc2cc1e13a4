"""What a killed worker costs: seconds to the next step, steps lost, and goodput under a kill every 15 s.

Run: .venv/bin/python benchmarks/recovery.py [--json] [--quick]

Two gloo workers with steps of 50 ms on one machine; a worker gets SIGKILL, and what is measured is the
time to the next step that anybody has done. rayplat, with one standby: the survivor alone, both again, and
all killed at once (from the newest checkpoint); and, in a full run, all killed without a standby. Peers do
the same steps under DDP: torchrun with restarts, Ray Train with its health check at 0.05 s, both with a
checkpoint every 10 steps, and torchft with two replica groups (see recovery_torchft).

Goodput is the share of the steps that the time would have held without a kill,
at the median time of an undisturbed step, for all alike; a step done twice counts once. So evaluations and
checkpoints count against it, too. Steps are 50 ms long for whoever is there; what one holds differs: a
survivor of rayplat's takes the whole global batch, one of torchft's its own half. The full run takes some
seven minutes. Should it be killed, a guard ends what it has started.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import recovery_peers
import recovery_torchft
from harness import Claim, main
from recovery_guard import begin_guard
from recovery_peers import STEP_S

HERE = Path(__file__).parent
ROWS = 2048
KILL_EVERY_S, SETTLE_S = 15.0, 2.0


@dataclass(frozen=True)
class Step:
    """A step that a worker has done."""

    at: float
    step: int
    rank: int
    world: int
    pid: int


class InMemory:
    """Rows as a task names them, without a lakehouse."""

    def read(self) -> Any:
        from rayplat.train.rows import Rows

        random = np.random.default_rng(1)
        x = random.normal(size=(ROWS + 256, 2)).astype(np.float32)
        y = (x[:, 0] + random.normal(size=len(x)) > 0).astype(np.float32)
        return Rows(("own__a", "own__b"), x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:])


def steps(folder: Path) -> list[Step]:
    """Every step that was written down, in the order of time."""
    found = []
    for path in folder.glob("steps-*.txt"):
        for line in path.read_text().splitlines():
            at, *rest = line.split()
            if len(rest) == 4:
                found.append(Step(float(at), *map(int, rest)))
    return sorted(found, key=lambda step: step.at)


def wait_until(condition: Callable[[list[Step]], bool], folder: Path, within: float = 60.0) -> list[Step]:
    """The steps once a condition holds of them."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        seen = steps(folder)
        if condition(seen):
            return seen
        time.sleep(0.01)
    raise SystemExit(f"{folder}: nothing happened within {within} s; the last steps: {steps(folder)[-3:]}")


def both(seen: list[Step], after: float) -> bool:
    """Whether a group of two has done some steps since."""
    return sum(s.world == 2 and s.at > after for s in seen) >= 8


@dataclass(frozen=True)
class Recovered:
    """What one kill cost: seconds to the next step, steps that were done again, seconds to two workers."""

    to_step: float
    lost: int
    to_both: float


def kill_and_watch(folder: Path, ranks: Sequence[int]) -> Recovered:
    """Kill workers of those ranks, all at once, and see what follows."""
    seen = wait_until(lambda s: both(s, s[-1].at - 1.0 if s else 0.0), folder)
    newest = {s.rank: s for s in seen if s.world == 2 and s.at > seen[-1].at - 1.0}
    reached = seen[-1].step
    killed = time.time()
    for rank in ranks:
        os.kill(newest[rank].pid, signal.SIGKILL)
    dead = {newest[rank].pid for rank in ranks}
    # The step in flight when the kill came may still be written down by a worker whose gradients were in.
    flying = STEP_S / 5
    after = wait_until(lambda s: any(x.at > killed + flying and x.pid not in dead for x in s), folder)
    first = next(s for s in after if s.at > killed + flying and s.pid not in dead)
    again = wait_until(lambda s: any(x.world == 2 and x.at > killed + flying for x in s), folder)
    joined = next(s for s in again if s.world == 2 and s.at > killed + flying and s.pid not in dead)
    return Recovered(first.at - killed, max(0, reached - first.step + 1), joined.at - killed)


def goodput(folder: Path, seconds: float, every: float) -> float:
    """Steps done over those that the time holds without a kill, with a kill in the middle of each `every`."""
    settled = time.time() + SETTLE_S  # the first steps of a group say nothing about how long one takes
    seen = wait_until(lambda s: both(s, settled), folder)
    begin, first, rank = time.time(), seen[-1].step, 1
    for kill in range(round(seconds / every)):
        time.sleep(max(0.0, begin + (kill + 0.5) * every - time.time()))
        newest = [s for s in steps(folder) if s.rank == rank]
        with contextlib.suppress(ProcessLookupError):  # a group that has not begun again since
            os.kill(newest[-1].pid, signal.SIGKILL)
        rank = 1 - rank
    time.sleep(max(0.0, begin + seconds - time.time()))
    done = max(s.step for s in steps(folder)) - first
    undisturbed = np.median(np.diff([s.at for s in seen if s.rank == 0 and s.world == 2][-20:]))
    return done * float(undisturbed) / (time.time() - begin)


def end(processes: Sequence[psutil.Process]) -> None:
    """End processes that were started here, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


class Ours:
    """A group of rayplat on a platform of its own, in a thread."""

    def __init__(self, folder: Path, standbys: int) -> None:
        from rayplat.cluster.session import connect, up
        from rayplat.core.settings import Settings
        from rayplat.train.group import GroupSpec, run_group
        from rayplat.train.worker import WorkerTask

        home = folder / "home"
        self.settings = Settings.model_validate({"home": home, "ray": {"cpus": 4, "object_store_mib": 256}})
        up(self.settings)
        connect(self.settings)
        project = folder / "project.py"
        shutil.copy(HERE / "spot_project.py", project)
        (folder / "step_s").write_text(str(STEP_S))
        (folder / "epochs").write_text("1000")
        rows: Any = InMemory()
        task = WorkerTask(str(project), "spot", rows, f"file://{folder}/run", 1)
        self.stop = False
        self.thread = threading.Thread(
            target=run_group, args=(GroupSpec(1, 2, standbys), task, _quietly, lambda: self.stop)
        )
        self.thread.start()

    def close(self) -> None:
        from rayplat.cluster.session import disconnect, down

        self.stop = True
        self.thread.join(60)
        disconnect()
        down(self.settings)


def commands(quick: bool) -> dict[str, list[str]]:
    """By peer, what is given to Python; quickly the two alone that begin quickly."""
    found = dict(recovery_peers.COMMANDS)
    if quick:
        del found["ray_train"]
    if recovery_torchft.installed():
        found["torchft"] = recovery_torchft.COMMAND
    return found


def begin_peer(command: Sequence[str], folder: Path) -> Any:
    """Start a peer, without what our own platform has told its Ray by the environment."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY")}
    return subprocess.Popen(
        [sys.executable, *command, str(folder)],
        env={**plain, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(recovery_torchft.FOLDER)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _quietly(text: str, share: float | None) -> None:
    """A benchmark does not tell of epochs."""


def without_standby() -> list[float]:
    """Seconds to the next step where all workers are killed, and no process is ready."""
    with tempfile.TemporaryDirectory(prefix="rayplat-recovery-") as made:
        folder = Path(made)
        group = Ours(folder, standbys=0)
        try:
            return [kill_and_watch(folder, [0, 1]).to_step for _ in range(2)]
        finally:
            group.close()


def measure(quick: bool) -> list[Claim]:
    kills, seconds = (2, 10.0) if quick else (5, 45.0)
    every = 10.0 if quick else KILL_EVERY_S
    begin_guard()
    ours: list[Recovered] = []
    restarts: list[Recovered] = []
    with tempfile.TemporaryDirectory(prefix="rayplat-recovery-") as made:
        folder = Path(made)
        group = Ours(folder, standbys=1)
        try:
            ours = [kill_and_watch(folder, [kill % 2]) for kill in range(kills)]
            our_goodput = goodput(folder, seconds, every)
            restarts = [kill_and_watch(folder, [0, 1]) for _ in range(max(1, kills // 2))]
        finally:
            group.close()
    cold = [] if quick else without_standby()
    peers: dict[str, list[Recovered]] = {}
    peer_goodput: dict[str, list[float]] = {}
    for name, command in commands(quick).items():
        with tempfile.TemporaryDirectory(prefix="rayplat-recovery-") as made:
            folder = Path(made)
            child = begin_peer(command, folder)
            try:
                for kill in range(max(1, kills // 2)):
                    peers.setdefault(name, []).append(kill_and_watch(folder, [kill % 2]))
                peer_goodput[name] = [goodput(folder, seconds, every)]
            except SystemExit as stuck:  # a peer that does not come back takes nobody else's figures along
                print(f"{name}: {stuck}", file=sys.stderr)
            finally:
                end([*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)])
    theirs = {name: [r.to_step for r in found] for name, found in peers.items()}
    return [
        Claim("kill_to_step_s", "s", [r.to_step for r in ours], theirs, note="shrink and continue"),
        Claim("kill_to_both_s", "s", [r.to_both for r in ours], theirs, note="a standby has joined"),
        Claim(
            "kill_all_to_step_s",
            "s",
            [r.to_step for r in restarts],
            theirs,
            note="group restart, a standby is ready",
        ),
        *(
            [Claim("kill_all_cold_to_step_s", "s", cold, theirs, note="group restart, none is")]
            if cold
            else []
        ),
        Claim(
            "steps_lost",
            "steps",
            [float(r.lost) for r in ours],
            {name: [float(r.lost) for r in found] for name, found in peers.items()},
        ),
        Claim(
            "goodput_kill_every_15s",
            "share",
            [our_goodput],
            peer_goodput,
            higher_is_better=True,
            note=f"a kill every {every:.0f} s",
        ),
    ]


if __name__ == "__main__":
    main(measure, __doc__ or "")
