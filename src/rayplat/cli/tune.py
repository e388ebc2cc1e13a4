"""`rayplat tune`: a study of a model's space, its best trial as a candidate, and the studies so far.

Knows the options and how the outcome is shown; it does not know how trials are chosen or run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from rayplat.cli.command import Call, command
from rayplat.cli.groups import RunByDefault
from rayplat.cli.output import Format, console, fields, table
from rayplat.cli.parameters import ModelName, ProjectAddress, chosen_model
from rayplat.cli.progress import open_progress
from rayplat.core.progress import Progress, Silent
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project

app = typer.Typer(
    help="Search a model's space for its best values. `rayplat tune PROJECT` means "
    "`rayplat tune run PROJECT`.",
    cls=RunByDefault,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.callback()(lambda: None)

Trials = Annotated[int | None, typer.Option("--trials", help="Start at most so many, over all sittings.")]
Seconds = Annotated[float | None, typer.Option("--max-seconds", help="Sit over it at most so long.")]
Dollars = Annotated[float | None, typer.Option("--max-usd", help="Spend at most so much.")]
Price = Annotated[
    float | None,
    typer.Option("--usd-per-worker-hour", help="What a worker costs.", show_default="its share of a node"),
]
Group = Annotated[
    str | None,
    typer.Option("--group", help="Of whose nodes the workers are: prices.", show_default="none: unpriced"),
]
Market = Annotated[str, typer.Option("--market", help="on-demand or spot.")]
Metric = Annotated[list[str] | None, typer.Option("--metric", help="An objective; may be given again.")]
SearchName = Annotated[str, typer.Option("--search", help="auto, tpe, gp, random, grid or pbt.")]
StopperName = Annotated[str, typer.Option("--stopper", help="none, asha, asha-stopping or median.")]
Workers = Annotated[int, typer.Option("--workers", help="How many train at a time, over all trials.")]
StudyName = Annotated[str | None, typer.Option("--study", help="Its name; one that exists goes on.")]
Warm = Annotated[bool, typer.Option("--warm", help="Learn from earlier studies of the same model.")]
NoCandidate = Annotated[bool, typer.Option("--no-candidate", help="Do not train and register the best.")]
Population = Annotated[int, typer.Option("--population", help="Members that `pbt` trains.")]
Interval = Annotated[int, typer.Option("--interval", help="Epochs of a generation of `pbt`.")]
Elastic = Annotated[
    bool, typer.Option("--elastic/--no-elastic", help="Trials of a network take in workers that idle.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of the search.")]


@command(app, "run")
def run_(  # noqa: PLR0917  # one argument an option
    call: Call,
    project: ProjectAddress,
    model: ModelName = None,
    trials: Trials = None,
    max_seconds: Seconds = None,
    max_usd: Dollars = None,
    usd_per_worker_hour: Price = None,
    group: Group = None,
    market: Market = "on-demand",
    metric: Metric = None,
    search: SearchName = "auto",
    stopper: StopperName = "none",
    workers: Workers = 2,
    study: StudyName = None,
    warm: Warm = False,
    population: Population = 8,
    interval: Interval = 1,
    elastic: Elastic = True,
    seed: Seed = 0,
    no_candidate: NoCandidate = False,
) -> None:
    """Tune a model; killed and called again with the same study it goes on."""
    from rayplat.tuning.caps import Caps
    from rayplat.tuning.model_study import Options

    loaded = call.project(project)
    chosen = chosen_model(loaded, model)
    if trials is None and max_seconds is None and max_usd is None:
        trials = 50
    options = Options(
        caps=Caps(trials, max_seconds, max_usd),
        metrics=tuple(metric or ["log_loss"]),
        search=search,
        stopper=stopper,
        workers=workers,
        usd_per_worker_second=_price(call, chosen, usd_per_worker_hour, group, market),
        seed=seed,
        warm=warm,
        population=population,
        interval=interval,
        elastic=elastic,
    )
    name = study or chosen.name
    if call.form is Format.JSON:
        _tune(call, loaded, chosen, name, options, not no_candidate, Silent())
    else:
        with open_progress(console(stderr=True)) as progress:
            _tune(call, loaded, chosen, name, options, not no_candidate, progress)


def _price(
    call: Call, model: Model, by_hour: float | None, group: str | None, market: str
) -> float | Callable[[], float]:
    """What is given wins; else the group's price, which may change meanwhile."""
    if by_hour is not None or group is None:
        return (by_hour or 0.0) / 3600
    from rayplat.cli.tune_price import worker_price

    training = model.training
    return worker_price(call.settings(), group, market, training.cpus, training.gpus or 0.0)


def _tune(  # noqa: PLR0917  # what `run` was asked for
    call: Call, project: Project, model: Model, study: str, options: Any, candidate: bool, progress: Progress
) -> None:
    from rayplat.data.lakehouse.pins import Pins
    from rayplat.features.training_set import build_training_set
    from rayplat.tuning.model_study import best_of, register_candidate, tune_model

    platform, steps = call.connected(), 3 if candidate else 2
    progress.begin(1, steps, "Build the training set")
    hold = Pins(platform.settings).for_training(model.name)
    built = build_training_set(platform.lake, model, platform.bus, hold)
    progress.finish(f"{built.rows_train:,} rows")
    progress.begin(2, steps, f"Tune {model.name}")
    outcome = tune_model(platform.settings, project, model, built, study, options, progress.note)
    kept, best = best_of(platform.settings, study)
    progress.finish(outcome.why)
    found: dict[str, Any] = {
        "study": study,
        "why": outcome.why,
        "trials": len(kept.trials),
        "seconds": outcome.spent.seconds,
        "usd": outcome.spent.dollars,
        "best_trial": best.number,
        "params": dict(best.params),
        "values": dict(zip((o.name for o in kept.objectives), best.values, strict=True)),
    }
    if candidate:
        progress.begin(3, steps, "Train the best on all training rows")
        version = register_candidate(
            platform.settings, project, model, built, platform.registry, platform.bus, study, progress.note
        )
        progress.finish(f"version {version.version}")
        found |= {"candidate": version.version, "metrics": version.metrics}
    call.show(found, lambda: fields(found))


@command(app, "list")
def list_(call: Call) -> None:
    """The studies so far: trials, what they cost, and the best value."""
    from rayplat.tuning.journal import list_studies
    from rayplat.tuning.pareto import front

    found = []
    for study in list_studies(call.settings().database):
        best = front(study)
        found.append(
            {
                "study": study.name,
                "model": study.model,
                "trials": len(study.trials),
                "complete": sum(t.state == "complete" for t in study.trials),
                "seconds": round(study.spent.seconds, 1),
                "usd": round(study.spent.dollars, 4),
                "best": ", ".join(f"{v:.6g}" for v in best[0].values) if best else "",
            }
        )
    columns = ("study", "model", "trials", "complete", "seconds", "usd", "best")
    call.show(found, lambda: table(columns, [[row[c] for c in columns] for row in found], "studies"))


@command(app)
def page(
    call: Call,
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Its name.")],
    to: Annotated[Path, typer.Option("--to", help="The file to write.")] = Path("study.html"),
) -> None:
    """Write a study as one page that needs no network: history, importance, parallel coordinates, Pareto."""
    from rayplat.core import plugins
    from rayplat.tuning.journal import read_study

    written = plugins.load("page", "study")(to, read_study(call.settings().database, study))
    call.show({"page": str(written)}, lambda: fields({"page": str(written)}))
