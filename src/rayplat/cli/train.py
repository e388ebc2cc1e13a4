"""`rayplat train`: the training set, the run and the registered version.

Knows the order and how the outcome is shown; it does not know how a model is trained. The new
version gets no alias here: promotion is for the gates (`rayplat run`).
"""

from typing import Annotated

import typer

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import Format, console, fields
from rayplat.cli.parameters import ProjectAddress
from rayplat.cli.progress import open_progress
from rayplat.core.errors import NotFoundError
from rayplat.core.progress import Progress, Silent
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project

app = single()

ModelName = Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Needed where there are several.")]


@command(app)
def train(call: Call, project: ProjectAddress, model: ModelName = None) -> None:
    """Train a model of the project on its current data and register the version."""
    loaded = call.project(project)
    chosen = _model(loaded, model)
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


def _model(project: Project, name: str | None) -> Model:
    known = ", ".join(model.name for model in project.models) or "none"
    if name is None and len(project.models) == 1:
        return project.models[0]
    for model in project.models:
        if model.name == name:
            return model
    what = f"the project has no model {name!r}" if name else "the project has not exactly one model"
    raise NotFoundError(what, f"name one of: {known}")
