"""No-op trials a second: rayplat's durable ones, Ray Tune's and Optuna's, in one run on one Ray of two CPUs.

Knows how each is asked for as many as it can do; it does not know what a trial is good for.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from harness import Claim

from rayplat.core.project.space import Float, Space
from rayplat.core.settings import Settings
from rayplat.tuning.caps import Caps
from rayplat.tuning.journal import Journal, Objective
from rayplat.tuning.model_search import TpeSearch
from rayplat.tuning.pool import RayPool
from rayplat.tuning.search import RandomSearch
from rayplat.tuning.study import Sitting
from rayplat.tuning.trial import Start

UNIT = Space(x=Float(0, 1), y=Float(0, 1))


def no_op(trial: Any) -> float:
    return float(trial.params["x"])


def ours(database: str, name: str, search: Any, trials: int) -> float:
    """Durable trials a second; the workers are there before the clock runs, as they are in a long study."""
    pool = RayPool(no_op, workers=2, ahead=32)
    for ready in range(2):
        pool.start(Start(-1 - ready, {"x": 0.0}))
    heard = 0
    while heard < 2:
        heard += len(pool.heard(1.0))
    journal = Journal(database, name, "bench", [Objective("loss")])
    begin = time.perf_counter()
    Sitting(journal, search, pool, Caps(trials=trials)).run()
    taken = time.perf_counter() - begin
    journal.close()
    return trials / taken


def by_optuna(trials: int, seed: int) -> float:
    """TPE in memory, in one process, nothing durable."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    begin = time.perf_counter()
    study.optimize(lambda t: t.suggest_float("x", 0, 1) + 0 * t.suggest_float("y", 0, 1), n_trials=trials)
    return trials / (time.perf_counter() - begin)


def by_tune(trials: int, folder: str, *, reuse: bool) -> float:
    """Ray Tune's random search over two CPUs: by function, or by a class whose actors are used again."""
    from ray import tune

    class NoOp(tune.Trainable):
        def step(self) -> dict[str, Any]:
            return {"loss": self.config["x"], "done": True}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            return None

    def by_function(config: dict[str, Any]) -> None:
        tune.report({"loss": config["x"]})

    tuner = tune.Tuner(
        NoOp if reuse else by_function,
        param_space={"x": tune.uniform(0, 1), "y": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(
            num_samples=trials, metric="loss", mode="min", reuse_actors=reuse, max_concurrent_trials=2
        ),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    )
    begin = time.perf_counter()
    found = tuner.fit()
    taken = time.perf_counter() - begin
    if found.num_errors or len(found) != trials:
        raise SystemExit(f"Ray Tune ended {len(found)} trials of {trials}, {found.num_errors} with errors")
    return trials / taken


def throughput(trials: int, runs: int, tuned: tuple[int, int]) -> Claim:
    """The claim `trials_per_s`.

    Args:
        tuned: how many trials Ray Tune gets, by function and with reuse; it is slow.
    """
    from rayplat.cluster.session import connect, disconnect, down, up

    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate(
            {"home": Path(folder), "ray": {"cpus": 2, "object_store_mib": 256}}
        )
        up(settings)
        try:
            connect(settings)
            for run in range(runs):
                database = settings.database
                found = {
                    "random": ours(database, f"random{run}", lambda told: RandomSearch(UNIT), trials),
                    "tpe": ours(database, f"tpe{run}", lambda told: TpeSearch(UNIT, told=told), trials // 4),
                    "optuna_tpe": by_optuna(trials // 4, run),
                }
                if run == 0:
                    found["ray_tune_function"] = by_tune(tuned[0], f"{folder}/f", reuse=False)
                    found["ray_tune_reuse"] = by_tune(tuned[1], f"{folder}/r", reuse=True)
                for name, rate in found.items():
                    rates.setdefault(name, []).append(rate)
        finally:
            disconnect()
            down(settings)
    tpe = median(rates.pop("tpe"))
    return Claim(
        "trials_per_s",
        "trials/s",
        rates.pop("random"),
        rates,
        higher_is_better=True,
        note=f"durable, random search; by TPE {tpe:.0f}/s, its first {trials // 4} trials; "
        f"Ray Tune over {tuned[0]} and {tuned[1]} trials",
    )
