"""How much cheaper a run is on spot nodes that come and go than on nodes on demand, at a discount of 70 %.

Run: .venv/bin/python benchmarks/spot.py [--json] [--quick]

A seeded trace of preemptions is replayed through rayplat's elastic trainer as it is: two nodes, each a
process, taken when the trace has them, told 2 s before they go, killed when they go; once both go at the
same time. Nothing of the trainer is simulated; the trace alone is compressed: a node stays for half a
minute or so instead of hours, while its start takes the second or two that processes, imports and
regrouping really take (for both sides of the comparison), and a margin of half a second before a deadline
is half a second. So all that a preemption costs weighs more here than where nodes stay for hours. A step is
0.1 s of one worker's time, shared by those that are there. Each second of a node is paid from its begin
until it is given back, each start included; a node whose work is saved and goes on elsewhere is given back
before it is taken. On demand: the same steps on two nodes that stay, at the measured time of a step, with
one start each. `spot_saving` is the price on demand over that on spot; its bound is 1 / 0.3. The starts
that preemptions cost are most of what separates the two: here one is some 7 % of a node's stay (full run: 2
to 3 %), more than where nodes stay for hours.

Beside it, computed for the same trace and the measured start: greedy spot (all capacity is taken, each change
starts the group again from a checkpoint 5 s old at most), and a clairvoyant plan (it knows when each node
goes, loses nothing, and pays each start).
"""

import secrets
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from harness import Claim, main
from spot_world import HOST, SpotNodes, Trainer, Window, replay, trace, warm_up

HERE = Path(__file__).parent
ROWS, STEPS_AN_EPOCH = 2048, 32
DISCOUNT = 0.7
SEEDS = (11, 12, 13)
FOR_EVER = 1e9


class InMemory:
    """Rows as a task names them, without a lakehouse."""

    def read(self) -> Any:
        from rayplat.train.rows import Rows

        random = np.random.default_rng(1)
        x = random.normal(size=(ROWS + 256, 2)).astype(np.float32)
        y = (x[:, 0] + random.normal(size=len(x)) > 0).astype(np.float32)
        return Rows(("own__a", "own__b"), x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:])


class Run:
    """One run of the elastic trainer on the windows of a trace."""

    def __init__(self, windows: list[Window], epochs: int) -> None:
        from rayplat.train.elastic.controller import Controller
        from rayplat.train.elastic.door import Door
        from rayplat.train.worker import WorkerTask

        with tempfile.TemporaryDirectory(prefix="rayplat-spot-") as made:
            folder = Path(made)
            shutil.copy(HERE / "spot_project.py", folder / "project.py")
            (folder / "epochs").write_text(str(epochs))
            rows: Any = InMemory()
            task = WorkerTask(str(folder / "project.py"), "spot", rows, f"file://{folder}/run", 1)
            secret = secrets.token_hex(8)
            door = Door(HOST, secret)
            self.nodes = SpotNodes(task, door, secret, windows)
            self.error: BaseException | None = None
            controller = Controller(self.nodes, door, 1, 2, lambda text, share: None)
            thread = threading.Thread(target=self._drive, args=(controller,))
            thread.start()
            thread.join(400)
            self.nodes.close()
            door.close()
            if self.error is not None:
                raise self.error
            lines = [line.split() for line in (folder / "steps").read_text().splitlines()]
        self.steps = [(float(at) - self.nodes.begun, int(step), int(world)) for at, step, world in lines]
        self.paid = self.nodes.seconds()

    def _drive(self, controller: Any) -> None:
        try:
            controller.run()
        except BaseException as error:
            self.error = error
        self.nodes.over.set()
        for member in list(self.nodes.nodes):
            self.nodes.forget(member)

    @property
    def repeated(self) -> int:
        """Steps that were taken more than once."""
        return len(self.steps) - len({step for _, step, _ in self.steps})


def on_demand(epochs: int) -> tuple[float, float]:
    """Node seconds of a step on two nodes that stay, and from a node's begin until it trains."""
    run = Run([Window(0, 0.0, FOR_EVER), Window(1, 0.0, FOR_EVER)], epochs)
    both = [(at, step) for at, step, world in run.steps if world == 2]
    (first, begin), (last, end) = both[0], both[-1]
    return 2 * (last - first) / (end - begin), run.steps[0][0]


def measure(quick: bool) -> list[Claim]:
    epochs, mean, crunch = (12, 30.0, 12.0) if quick else (60, 60.0, 50.0)
    warm_up()
    step, start = on_demand(2 if quick else 8)
    ours: list[float] = []
    computed: dict[str, list[float]] = {"greedy_spot": [], "clairvoyant": []}
    repeated: list[float] = []
    for seed in SEEDS[:1] if quick else SEEDS:
        windows = trace(seed, 2, mean, gap_s=3.0, crunch_s=crunch)
        run = Run(windows, epochs)
        steps = epochs * STEPS_AN_EPOCH
        work = steps * step
        demand, price = work + 2 * start, 1 - DISCOUNT
        ours.append(demand / (price * run.paid))
        repeated.append(float(run.repeated))
        computed["greedy_spot"].append(demand / (price * replay(windows, work, Trainer(start, True, 5.0))))
        computed["clairvoyant"].append(demand / (price * replay(windows, work, Trainer(start, False))))
    return [
        Claim(
            "spot_saving",
            "x",
            ours,
            computed,
            higher_is_better=True,
            limit=1 / (1 - DISCOUNT),
            note=f"peers computed, a start takes {start:.1f} s",
        ),
        Claim("spot_steps_repeated", "steps", repeated),
    ]


if __name__ == "__main__":
    main(measure, __doc__ or "")
