"""`rayplat train`: the training set, the run and the registered version; its goodput; the same run again.

Knows the order and how the outcome is shown; it does not know how a model is trained. The new
version gets no alias here: promotion is for the gates (`rayplat run`).
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call, command
from rayplat.cli.groups import RunByDefault
from rayplat.cli.output import Format, console, fields, table
from rayplat.cli.parameters import ModelName, ProjectAddress, chosen_model
from rayplat.cli.progress import open_progress
from rayplat.cli.versions import resolve
from rayplat.core.errors import NotFoundError
from rayplat.core.progress import Progress, Silent
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project

if TYPE_CHECKING:
    from rayplat.core.settings import Settings
    from rayplat.train.goodput.report import GoodputReport
    from rayplat.wiring import Platform

app = typer.Typer(
    help="Build the training set, train, register; look at runs, and train one again. "
    "`rayplat train PROJECT` means `rayplat train run PROJECT`.",
    cls=RunByDefault,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.callback()(lambda: None)

RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, or the version that it became: MODEL/1, MODEL@champion."),
]
LivingRun = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]", help="A run's id or name, MODEL/1 or MODEL@champion; else all that train now."
    ),
]


@command(app, "run")
def run_(call: Call, project: ProjectAddress, model: ModelName = None) -> None:
    """Train a model of the project on its current data and register the version."""
    loaded = call.project(project)
    chosen = chosen_model(loaded, model)
    if call.form is Format.JSON:
        _train(call, loaded, chosen, Silent())
    else:
        with open_progress(console(stderr=True)) as progress:
            _train(call, loaded, chosen, progress)


def _train(call: Call, project: Project, model: Model, progress: Progress) -> None:
    from rayplat.data.lakehouse.pins import Pins
    from rayplat.features.training_set import build_training_set
    from rayplat.train.trainer import train_model

    platform = call.connected()
    progress.begin(1, 2, "Build the training set")
    hold = Pins(platform.settings).for_training(model.name)
    built = build_training_set(platform.lake, model, platform.bus, hold)
    progress.finish(f"{built.rows_train:,} rows to train, {built.rows_test:,} to test")
    for suspect in built.suspects:
        call.note(
            f"warning: {suspect.feature} alone has an AUC of {suspect.auc:.4f}, too good to be true: "
            f"it may know the outcome. It reads {', '.join(suspect.reads)}"
        )
    progress.begin(2, 2, "Train and evaluate")
    outcome = train_model(
        platform.settings, project, model, built, platform.registry, platform.bus, progress.note
    )
    progress.finish(f"version {outcome.version}")
    found = {
        "model": model.name,
        "version": outcome.version,
        "suspects": built.suspects,
        "run_id": outcome.run_id,
        "metrics": outcome.metrics,
        "baselines": outcome.baselines,
        "artifact": outcome.artifact_uri,
        "manifest_sha256": outcome.manifest_sha256,
        "resumed": outcome.resumed,
    }
    call.show(found, lambda: fields(found))


@command(app)
def report(call: Call, run: LivingRun = None) -> None:
    """What a run's time was spent on, in seconds and money, and what its largest loss is due to."""
    platform = call.platform()
    found = [_priced(platform.settings, one).shown() for one in _reports(platform, run)]
    call.show(found, lambda: _report_text(found))


@command(app)
def reproduce(
    call: Call,
    run: RunName,
    project: Annotated[
        str | None, typer.Option("--project", help="Where its project is; else where it was then.")
    ] = None,
) -> None:
    """Train a run again from its pinned data, code and seed, and compare the weights' digests."""
    from rayplat.registry.artifact import read_manifest
    from rayplat.train.reproduce import reproduce as train_again

    platform = call.connected()
    run_id = _run_id(platform, run)
    address = project or read_manifest(platform.registry.run(run_id).artifact_uri).code.project
    loaded = call.project(address)
    if call.form is Format.JSON:
        outcome = train_again(platform.settings, loaded, platform.registry, run_id, Silent().note)
    else:
        with open_progress(console(stderr=True)) as progress:
            progress.begin(1, 1, "Train again")
            outcome = train_again(platform.settings, loaded, platform.registry, run_id, progress.note)
            progress.finish("the weights are the same" if outcome.same else "the weights differ")
    call.show(outcome, lambda: fields({**_vars(outcome), "differs": "; ".join(outcome.differs) or "nothing"}))
    if not outcome.same:
        raise typer.Exit(1)


def _vars(outcome: Any) -> dict[str, Any]:
    from rayplat.cli.output import vars_of

    return vars_of(outcome)


def _run_id(platform: "Platform", run: str) -> str:
    return resolve(platform.registry, run).run_id if "/" in run or "@" in run else run


def _reports(platform: "Platform", run: str | None) -> "list[GoodputReport]":
    """The reports of the living runs of that name, or of the finished run."""
    from rayplat.registry.folder import open_folders
    from rayplat.train.goodput.report import kept_report
    from rayplat.train.record import read_goodput

    root = f"{platform.settings.warehouse.rstrip('/')}/runs"
    store, path = open_folders(root)
    living = [
        kept[1]
        for model in store.folders(path)
        for name in store.folders(f"{path}/{model}")
        if (run is None or name == run) and (kept := kept_report(f"{root}/{model}/{name}")) is not None
    ]
    if run is None or living:
        return living
    finished = platform.registry.run(_run_id(platform, run))
    found = read_goodput(finished.artifact_uri)
    if found is None:
        raise NotFoundError(f"nothing was kept of the time of run {run}", "train it again: it is kept since")
    return [found]


def _priced(settings: "Settings", report: "GoodputReport") -> "GoodputReport":
    """With what the run has cost, where the prices of its nodes are known."""
    from rayplat.core.errors import RayplatError
    from rayplat.cost.accounts import Accounts
    from rayplat.cost.ledger import now_utc
    from rayplat.cost.report import report as lines_of

    def usd(run: str) -> float | None:
        try:
            with Accounts(settings) as accounts:
                charges = accounts.charges(None, now_utc())
        except RayplatError:  # no price, no cluster file: seconds are shown all the same
            return None
        paid = [line.nano for line in lines_of(charges, ["run"]) if line.values[0] == run]
        return sum(paid) / 1e9 if paid else None

    return report.priced(usd)


def _report_text(found: list[dict[str, Any]]) -> Any:
    from rich.console import Group

    parts: list[Any] = []
    for one in found:
        head = {name: value for name, value in one.items() if name != "by"}
        rows = [[row["spent_on"], row["seconds"], f"{row['share']:.1%}", row["usd"]] for row in one["by"]]
        parts += [fields(head), table(["spent on", "worker s", "share", "USD"], rows)]
    return Group(*parts) if parts else table([], [], "runs")
