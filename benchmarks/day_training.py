"""The training of the day: rayplat's own elastic group, that gives GPUs back while others wait for some.

Run: .venv/bin/python benchmarks/day_training.py HOME — until HOME/training/stop is there; prints what it did.

A process of its own, as a job is. Its worker's steps are those of `spot_project`: a tenth of a second of one
worker, shared by those that are there. Called again, it goes on at its newest checkpoint.
"""

import json
import os
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from day_world import LEAST, MOST, settings_of

from rayplat.cluster.observe import Observer
from rayplat.cluster.owners import declared
from rayplat.cluster.session import connect, running_head
from rayplat.core.settings import Settings
from rayplat.train.elastic.controller import Controller, Outcome
from rayplat.train.elastic.door import Door
from rayplat.train.elastic.slots import Slots, SlotSpec, _Slot
from rayplat.train.rows import Rows
from rayplat.train.worker import WorkerTask

HERE = Path(__file__).parent
BUNDLE = {"CPU": 1.0, "GPU": 1.0}
ROWS = 2048
EPOCHS = 10_000  # more than a day has
LOOK_S, PATIENT_S, CALM_S = 0.5, 2.0, 4.0
HOST = "127.0.0.1"


class InMemory:
    """Rows as a task names them, without a lakehouse."""

    def read(self) -> Any:
        random = np.random.default_rng(1)
        x = random.normal(size=(ROWS + 256, 2)).astype(np.float32)
        y = (x[:, 0] + random.normal(size=len(x)) > 0).astype(np.float32)
        return Rows(("own__a", "own__b"), x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:])


class _Later:
    """A reservation that is not asked for yet."""

    def wait(self, _: float) -> bool:
        return False


class Yielding(Slots):
    """Reservations of which all but `LEAST` are given back, one by one, while others wait for a GPU."""

    def __init__(self, observer: Observer, *made: Any) -> None:
        super().__init__(*made)
        self._observer = observer
        self._looked = self._wanted_since = self._calm_since = time.monotonic()
        self._wanted = False
        self._giving: set[str] = set()
        self.training: Callable[[], tuple[str, ...]] = tuple
        self.given_back = 0

    def leaving(self) -> dict[str, float]:
        """Those whose node is to go, and one that is given back."""
        self._look()
        found = super().leaving()
        now = time.monotonic()
        self._giving &= self._processes.keys()
        # Who does not train yet would leave only when the group forms anew for another reason.
        held = [m for m in self.training() if m in self._processes and m not in found]
        if self._wanted and now - self._wanted_since >= PATIENT_S and not self._giving and len(held) > LEAST:
            self._giving.add(held[-1])
        return {**dict.fromkeys(self._giving & self._processes.keys(), time.time() + 60), **found}

    def release(self, member: str) -> None:
        """One that is given back is reserved anew only when nobody else waits any more."""
        from ray.util import remove_placement_group

        process = self._processes.get(member)
        if member not in self._giving or process is None:
            super().release(member)
            return
        self.forget(member)
        remove_placement_group(self._slots[process.slot].group)
        self._slots[process.slot] = _Slot(_Later())
        self._giving.discard(member)
        self._wanted_since = time.monotonic()  # who waited has a moment to come in
        self.given_back += 1

    def fill(self) -> list[tuple[str, int]]:
        """Ask again for what was given back, once it has been calm for a while."""
        from ray.util import placement_group

        self._look()
        if not self._wanted and time.monotonic() - self._calm_since >= CALM_S:
            self._slots = [
                _Slot(placement_group([dict(BUNDLE)])) if isinstance(s.group, _Later) else s
                for s in self._slots
            ]
        return super().fill()

    def close(self) -> None:
        """End every member, and give everything back."""
        self._slots = [s for s in self._slots if not isinstance(s.group, _Later)]
        super().close()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        demands = self._observer.look().demands
        wanted = any(d.resources.get("GPU") and dict(d.resources) != BUNDLE for d in demands)
        if wanted and not self._wanted:
            self._wanted_since = now
        if not wanted and self._wanted:
            self._calm_since = now
        self._wanted = wanted


def train(settings: Settings, folder: Path) -> tuple[Outcome, int]:
    """Train until it is asked to stop; what came of it, and how many workers gave their GPU back."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "spot_project.py", folder / "project.py")
    (folder / "epochs").write_text(str(EPOCHS))
    rows: Any = InMemory()
    task = WorkerTask(str(folder / "project.py"), "spot", rows, f"file://{folder}/run", 1)
    secret = os.urandom(8).hex()
    door = Door(HOST, secret)
    observer = Observer(running_head(settings).address)
    try:
        slots = Yielding(observer, SlotSpec(BUNDLE, MOST), task, door, HOST, secret, 600.0)
        try:
            with declared("run", "day"):
                controller = Controller(slots, door, LEAST, MOST, _tell, (folder / "stop").exists)
                slots.training = lambda: controller._generation.members
                over = controller.run()
            return over, slots.given_back
        finally:
            slots.close()
    finally:
        observer.close()
        door.close()


def _tell(text: str, share: float | None) -> None:
    print(text, file=sys.stderr, flush=True)


def main(home: Path) -> dict[str, Any]:
    settings = settings_of(home)
    connect(settings)
    over, given_back = train(settings, home / "training")
    return {
        "given_back": given_back,
        "losses": over.losses,
        "worlds": list(over.worlds),
        "stopped": over.stopped,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    code = 0
    try:
        print(json.dumps(main(Path(sys.argv[1]))), flush=True)
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)
