"""From a model and its training set to one registered version, however often it is killed.

Knows the order of the steps and that each leaves something durable which the next run finds; it does
not know how workers run (`group`) or how the registry keeps what it is told.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from rayplat.cluster.owners import declared
from rayplat.core.errors import IntegrityError
from rayplat.core.events import EventBus, ModelRegistered, RunFinished
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project
from rayplat.core.project.view import in_order
from rayplat.core.settings import Settings
from rayplat.features.definition import digest_as_asked, digest_of
from rayplat.features.training_set import TrainingSet, recipe
from rayplat.features.versions import FeatureVersions
from rayplat.registry.artifact import CURVES, EVALUATION, find_artifact, read_artifact_file, write_artifact
from rayplat.registry.folder import open_folders
from rayplat.registry.manifest import CodePin, FeaturePin, Manifest, TrainingPin
from rayplat.registry.model import RegisteredVersion
from rayplat.registry.profile import profile_of
from rayplat.registry.signature import sign
from rayplat.registry.store import Registry
from rayplat.train.carry_out import carry_out
from rayplat.train.checkpoint import as_history
from rayplat.train.code import environment, pin_code
from rayplat.train.elastic.controller import Progress
from rayplat.train.evaluation import evaluate
from rayplat.train.goodput.report import GOODPUT, GoodputReport, kept_report
from rayplat.train.goodput.spending import Spending
from rayplat.train.record import (
    DIFF,
    LOCK,
    RUN,
    goodput_metrics,
    parameters,
    read_goodput,
    read_record,
    record_files,
)
from rayplat.train.rows import RowSource
from rayplat.train.stopping import StopWatch
from rayplat.train.worker import RunResult, WorkerTask, checkpoints_of, has_result, read_result

_KEY_FORMAT = 1
_THREADS = 1


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """A trained, evaluated and registered model.

    Attributes:
        metrics: of the model on the test rows.
        baselines: the same of each baseline, by its name.
        resumed: whether an earlier, perhaps killed, call had done part of the work or all of it.
    """

    run_id: str
    version: int
    metrics: dict[str, float]
    baselines: dict[str, dict[str, float]]
    manifest_sha256: str
    artifact_uri: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """What one run is about, and where its files are."""

    settings: Settings
    project: Project
    model: Model
    training_set: TrainingSet
    code: CodePin
    key: str
    params: Mapping[str, Any]

    @property
    def run_uri(self) -> str:
        """Checkpoints and result, until the artifact is registered."""
        return f"{self.settings.warehouse.rstrip('/')}/runs/{self.model.name}/{self.name}"

    @property
    def kept_uri(self) -> str:
        """Batches that went wrong: they outlive the run."""
        return f"{self.settings.warehouse.rstrip('/')}/kept-batches/{self.model.name}/{self.name}"

    @property
    def name(self) -> str:
        """The run's own name: what costs are counted for, and what is asked to stop."""
        return self.key[:24]

    @property
    def rows(self) -> RowSource:
        """The rows, in an order that no layout of files can change."""
        return RowSource(
            settings=self.settings,
            table=self.training_set.table,
            snapshot_id=self.training_set.snapshot_id,
            inputs=self.model.feature_names,
            order=("at", *(k for k in self.model.rows.key if k != "at")),
        )

    @property
    def begun(self) -> bool:
        """Whether an earlier call left a checkpoint or a result."""
        return has_result(self.run_uri) or checkpoints_of(self.run_uri).progress() is not None


def run_key(
    model: Model, training_set: TrainingSet, code: CodePin, params: Mapping[str, Any] | None = None
) -> str:
    """The SHA-256 of everything that decides the weights: data, definitions, seed, project code, parameters.

    The number of workers is no part of it: it changes float rounding alone.
    """
    decides = model.training.decides() | ({"kind": model.kind} if model.kind != "torch" else {})
    return digest_of(
        {
            "format": _KEY_FORMAT,
            "recipe": recipe(model),
            "training_set": training_set.digest,
            "seed": model.seed,
            "project_sha256": code.project_sha256,
            **({"training": decides} if decides else {}),
            **({"params": dict(params)} if params else {}),
        }
    )


def train_model(  # noqa: PLR0917  # the parts of a platform, in the order of its layers
    settings: Settings,
    project: Project,
    model: Model,
    training_set: TrainingSet,
    registry: Registry,
    bus: EventBus,
    progress: Progress,
    params: Mapping[str, Any] | None = None,
) -> TrainOutcome:
    """Train, evaluate against the baselines, write the artifact, log the run, register the version.

    Killed anywhere and called again it goes on: from the last checkpoint, the finished weights or the
    artifact. A run_key that is registered is not trained again. Ray must be connected.
    `params` are the values that a study found; the project's function reads them as `run.params`.

    Raises:
        RayplatError: the project's function failed, with its place; or workers were lost for good.
        RunStoppedError: it was asked to stop, and did with a checkpoint.
        IntegrityError: an artifact of this run is there and damaged.
    """
    code = pin_code(project)
    _keep_definitions(settings, project, model, bus)
    given = dict(params or {})
    key = run_key(model, training_set, code, given)
    job = _Job(settings, project, model, training_set, code, key, given)
    uri = registry.artifact_uri(model.name, job.key)
    found = find_artifact(uri)
    resumed = found is not None or job.begun
    if found is None:
        result = _trained(job, progress)
        progress("training the baselines on the same rows", None)
        _write_artifact(job, uri, result)
        found = find_artifact(uri)
    if found is None:
        raise IntegrityError(f"the artifact {uri} vanished while it was registered", "run it again")
    manifest, manifest_sha256 = found
    sign(settings.registry, uri, manifest_sha256)
    version = _register(registry, uri, manifest, manifest_sha256, model)
    _announce(registry, bus, manifest, version)
    store, path = open_folders(job.run_uri)
    store.remove(path)  # the artifact holds all that later work needs
    return TrainOutcome(
        run_id=version.run_id,
        version=version.version,
        metrics=manifest.metrics,
        baselines=manifest.baselines,
        manifest_sha256=manifest_sha256,
        artifact_uri=uri,
        resumed=resumed,
    )


def _keep_definitions(settings: Settings, project: Project, model: Model, bus: EventBus) -> None:
    """Apply the definitions that this version pins: it is served by them whatever the project says later."""
    versions = FeatureVersions(settings)
    try:
        versions.apply(project, settings.user, in_order(model.features), bus)
    finally:
        versions.close()


def _trained(job: _Job, progress: Progress) -> RunResult:
    if not has_result(job.run_uri):
        address = job.project.address or job.project.where.file
        task = WorkerTask(address, job.model.name, job.rows, job.run_uri, _THREADS, job.kept_uri, job.params)
        progress("starting workers", 0.0)
        stop = StopWatch(job.settings, job.name)
        try:
            with declared("run", job.name):
                stopped = carry_out(job.model, task, progress, stop)
            if stopped:
                raise stop.honour()
        finally:
            stop.close()
    return read_result(job.run_uri)


def _write_artifact(job: _Job, uri: str, result: RunResult) -> None:
    rows = job.rows.read()
    model, training_set = job.model, job.training_set
    evaluation = evaluate(rows, result.probabilities, model.seed)
    manifest = Manifest(
        model=model.name,
        run_key=job.key,
        features=tuple(
            FeaturePin(view=v.name, digest=digest_as_asked(v), names=v.names) for v in model.features
        ),
        inputs=rows.inputs,
        training=TrainingPin(
            table=training_set.table,
            snapshot_id=training_set.snapshot_id,
            digest=training_set.digest,
            sources=dict(training_set.sources),
            rows_train=len(rows.y_train),
            rows_test=len(rows.y_test),
        ),
        code=job.code,
        environment=environment(),
        metrics=evaluation.metrics,
        baselines=evaluation.baselines,
        created_at=datetime.now(UTC),
        profile={name: profile_of(rows.x_train[:, at]) for at, name in enumerate(rows.inputs)},
    )
    kept = kept_report(job.run_uri)
    report = GoodputReport(job.name, Spending()) if kept is None else kept[1]
    extra = {
        **result.estimator,
        **record_files(job.project, model, report, result.hardware, job.params),
        EVALUATION: evaluation.to_parquet(),
        CURVES: json.dumps(dict(result.history), sort_keys=True).encode(),
    }
    write_artifact(uri, result.weights, manifest, extra)


def _register(
    registry: Registry, uri: str, manifest: Manifest, manifest_sha256: str, model: Model
) -> RegisteredVersion:
    """Log the run and register the version, both from the artifact alone."""
    curves = cast("Mapping[str, Any]", json.loads(read_artifact_file(uri, CURVES, manifest_sha256)))
    metrics = {f"test.{name}": value for name, value in manifest.metrics.items()}
    for baseline, values in manifest.baselines.items():
        metrics |= {f"{baseline}.{name}": value for name, value in values.items()}
    record = {name: read_record(uri, name, manifest_sha256) for name in (RUN, LOCK, DIFF, GOODPUT)}
    report = read_goodput(uri, manifest_sha256)
    metrics |= {} if report is None else goodput_metrics(report)
    pins, code = manifest.training, manifest.code
    run_id = registry.log_run(
        manifest.model,
        manifest.run_key,
        params={
            "seed": model.seed,
            "workers": f"{model.workers[0]}-{model.workers[1]}",
            "inputs": len(manifest.inputs),
            "rows_train": pins.rows_train,
            "rows_test": pins.rows_test,
            "train_until": model.train_until.isoformat(),
            "test_until": model.test_until.isoformat(),
            **parameters(record[RUN]),
        },
        metrics=metrics,
        curves={**as_history(curves), **({} if report is None else report.system)},
        tags={
            "rayplat.training_table": pins.table,
            "rayplat.training_snapshot": str(pins.snapshot_id),
            "rayplat.training_digest": pins.digest,
            "rayplat.git_commit": code.git_commit,
            "rayplat.git_dirty": str(code.dirty).lower(),
            "rayplat.manifest_sha256": manifest_sha256,
        },
        artifact_uri=uri,
        files=record,
    )
    return registry.register(manifest.model, run_id, uri, manifest_sha256, manifest.run_key)


def _announce(registry: Registry, bus: EventBus, manifest: Manifest, version: RegisteredVersion) -> None:
    """Emit the events of a new version; a kill before the note that it was done repeats them."""
    if registry.announced(version.name, version.version):
        return
    bus.emit(RunFinished(model=version.name, run_id=version.run_id, metrics=manifest.metrics))
    bus.emit(
        ModelRegistered(
            model=version.name,
            version=version.version,
            run_id=version.run_id,
            manifest_sha256=version.manifest_sha256,
        )
    )
    registry.set_announced(version.name, version.version)
