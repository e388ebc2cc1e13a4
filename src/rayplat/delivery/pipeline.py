"""The whole loop, from events on a topic to the passport of a prediction.

Knows the steps and their order; each step finds what is there and continues, so that the loop may be
killed at any moment and run again. It does not know how a step does its work.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

from rayplat.cluster.session import connect, up
from rayplat.core.errors import BugError, UserError
from rayplat.core.progress import Progress
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project
from rayplat.core.project.view import FeatureView, in_order
from rayplat.data.lakehouse.pins import Pins
from rayplat.data.streaming.development.broker import start_broker
from rayplat.delivery.history import Taken, tell_and_ingest, teller, topics
from rayplat.delivery.live import Asked, live
from rayplat.delivery.parts import Parts
from rayplat.delivery.promotion import Promotion, promote
from rayplat.delivery.work import Work, plan_work
from rayplat.features.materialize import materialize
from rayplat.features.training_set import TrainingSet, build_training_set
from rayplat.features.versions import FeatureVersions
from rayplat.governance.passport import Passport, build_passport
from rayplat.monitoring.watch import WatchReport, watch
from rayplat.registry.artifact import read_manifest
from rayplat.serve.app import CHAMPION, EndpointInfo, deploy
from rayplat.serve.as_trained import applied, as_trained
from rayplat.train.trainer import TrainOutcome, train_model

T = TypeVar("T")

LABEL_LAG = timedelta(days=1)


@dataclass(slots=True)
class LoopReport:
    """What the loop did, filled step by step. `seconds` is the wall time of each step."""

    project: Project
    model: Model
    seconds: dict[str, float] = field(default_factory=dict)
    history: Taken | None = None
    training_set: TrainingSet | None = None
    outcome: TrainOutcome | None = None
    promotion: Promotion | None = None
    endpoint: EndpointInfo | None = None
    asked: Asked | None = None
    watched: WatchReport | None = None
    passport: Passport | None = None


Step = Callable[[Work, LoopReport], str]


def run_loop(parts: Parts, project: Project, progress: Progress) -> LoopReport:
    """Run the whole loop for a project that declares a model, an endpoint and a monitor.

    Raises:
        UserError: the project declares no model, endpoint or monitor.
        RayplatError: a step failed; what was done stays done, and the next run continues.
    """
    work = plan_work(parts, project, progress)
    report = LoopReport(project, work.model)
    for number, (title, step) in enumerate(STEPS, 1):
        progress.begin(number, len(STEPS), title)
        begin = time.perf_counter()
        summary = step(work, report)
        report.seconds[title] = time.perf_counter() - begin
        progress.finish(summary)
    return report


def _done(value: T | None, step: str) -> T:
    if value is None:
        raise BugError(f"the step {step!r} left nothing behind", "please report it")
    return value


def _platform(work: Work, report: LoopReport) -> str:
    settings = work.parts.settings
    info = up(settings)
    connect(settings)
    if not settings.kafka.bootstrap:
        start_broker(settings, topics(work.project))
    work.teller = teller(work.parts, work.project)
    return f"Ray at {info.address}{'' if info.started else ' (was running)'}, home {settings.home}"


def _history(work: Work, report: LoopReport) -> str:
    until = work.replay.history_until if work.replay else work.model.test_until
    taken = report.history = tell_and_ingest(work, until)
    held = sum(work.parts.lake.table(t.name).count() for t in work.project.tables)
    return f"{taken.rows:,} rows taken in now, {held:,} in the tables, {taken.aside:,} put aside"


def _training_set(work: Work, report: LoopReport) -> str:
    parts = work.parts
    hold = Pins(parts.settings).for_training(work.model.name)
    built = report.training_set = build_training_set(parts.lake, work.model, parts.bus, hold)
    return (
        f"{built.rows_train:,} rows to train, {built.rows_test:,} to test, "
        f"{built.unlabelled:,} without a label; snapshot {built.snapshot_id}"
    )


def _train(work: Work, report: LoopReport) -> str:
    parts = work.parts
    outcome = report.outcome = train_model(
        parts.settings,
        work.project,
        work.model,
        _done(report.training_set, "training set"),
        parts.registry,
        parts.bus,
        work.progress.note,
    )
    rivals = ", ".join(f"{name} {m['roc_auc']:.4f}" for name, m in outcome.baselines.items())
    return f"version {outcome.version}: ROC AUC {outcome.metrics['roc_auc']:.4f} ({rivals})"


def _promote(work: Work, report: LoopReport) -> str:
    outcome = _done(report.outcome, "train")
    done = report.promotion = promote(work.parts, work.model, outcome, work.parts.settings.user)
    if done.champion is None:
        raise UserError(
            f"version {done.version} did not pass the gates and there is no champion: {done.verdict.reason}",
            "better features or a longer history, or declare other gates",
        )
    return f"champion is version {done.champion}: {done.verdict.reason}"


def _champion(work: Work) -> Model:
    """The model over the views that its champion was trained with."""
    champion = work.parts.registry.by_alias(work.model.name, CHAMPION)
    if champion is None:
        return work.model
    manifest = read_manifest(champion.artifact_uri, champion.manifest_sha256)
    return as_trained(work.model, manifest, applied(FeatureVersions(work.parts.settings)))


def _serve(work: Work, report: LoopReport) -> str:
    parts = work.parts
    served = replace(work, model=_champion(work))
    views = [v for v in in_order(served.model.features) if isinstance(v, FeatureView)]
    materialize(parts.lake, parts.online, views, parts.bus)
    info = report.endpoint = deploy(parts.settings, work.project, work.endpoint, parts.registry, parts.bus)
    if work.replay is None:
        return f"{info.url} answers with version {info.version}"
    asked = report.asked = live(served, work.replay, info.url)
    rate = f", {asked.asked / asked.seconds:.0f} a second" if asked.asked else ""
    return f"{info.url}: {asked.asked:,} predictions{rate}; {asked.before:,} were there before"


def _watch(work: Work, report: LoopReport) -> str:
    if work.replay is not None:
        tell_and_ingest(work, work.replay.live_until + LABEL_LAG)
    parts = work.parts
    watched = report.watched = watch(parts.lake, parts.registry, work.project, work.monitor)
    state = "decayed" if watched.decayed else "holds"
    return f"{len(watched.days)} days, the model {state}, {len(watched.drifted)} features drifted"


def _passport(work: Work, report: LoopReport) -> str:
    parts = work.parts
    log = parts.lake.table("serving.predictions").read(columns=["prediction_id", "endpoint"])
    pairs = zip(log["prediction_id"].to_pylist(), log["endpoint"].to_pylist(), strict=True)
    mine = [prediction for prediction, endpoint in pairs if endpoint == work.endpoint.name]
    if not mine:
        return "no prediction has been made yet"
    report.passport = build_passport(parts.lake, parts.registry, parts.audit, work.project, max(mine))
    return f"passport of {max(mine)}"


STEPS: tuple[tuple[str, Step], ...] = (
    ("Start the platform", _platform),
    ("Take in the events", _history),
    ("Build the training set", _training_set),
    ("Train and evaluate", _train),
    ("Promote", _promote),
    ("Serve and ask", _serve),
    ("Watch", _watch),
    ("Trace", _passport),
)
