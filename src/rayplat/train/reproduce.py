"""Trains a run again from what it pinned, and says whether the weights are the same, or what differs.

Knows what a run pinned and what is here now; it does not know how a group trains (`group`).
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from rayplat.cluster.owners import declared
from rayplat.core.errors import NotFoundError
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project
from rayplat.core.settings import Settings
from rayplat.registry.artifact import WEIGHTS, digest_of, find_artifact, read_artifact
from rayplat.registry.folder import open_folders
from rayplat.registry.manifest import Manifest
from rayplat.registry.store import Registry
from rayplat.train.carry_out import carry_out
from rayplat.train.code import code_diff, pin_code
from rayplat.train.elastic.controller import Progress
from rayplat.train.environment import changes, environment_lock, lock_changes
from rayplat.train.record import DIFF, LOCK, RUN, read_record
from rayplat.train.rows import RowSource
from rayplat.train.worker import RunResult, WorkerTask, read_result

_THREADS = 1


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came of training a run again.

    Attributes:
        same: whether every byte of the weights is the same.
        weights_then, weights_now: their SHA-256.
        largest_difference: of any weight; None where their shapes differ, or the model is an estimator.
        differs: what is not as it was then, in words; where the weights differ, it is why.
    """

    run_id: str
    model: str
    same: bool
    weights_then: str
    weights_now: str
    largest_difference: float | None
    differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Then:
    """A run as it was."""

    run_id: str
    uri: str
    manifest: Manifest
    manifest_sha256: str
    told: dict[str, Any]


def reproduce(
    settings: Settings, project: Project, registry: Registry, run_id: str, progress: Progress
) -> Reproduction:
    """Train the run again from its pinned data and seed with the code that is here. Ray must be connected.

    Raises:
        NotFoundError: there is no such run or artifact, no such model, or the pinned data is gone.
        IntegrityError: the artifact is damaged.
    """
    run = registry.run(run_id)
    found = find_artifact(run.artifact_uri)
    if found is None:
        raise NotFoundError(f"the artifact {run.artifact_uri} of run {run_id} is gone", "restore it")
    manifest, sealed = found
    told = read_record(run.artifact_uri, RUN, sealed)
    then = _Then(run_id, run.artifact_uri, manifest, sealed, json.loads(told) if told else {})
    model = next((m for m in project.models if m.name == manifest.model), None)
    if model is None:
        raise NotFoundError(f"the project has no model {manifest.model!r}", "name the project of the run")
    result = _train(settings, project, _as_then(model, then), then, progress)
    weights, _ = read_artifact(then.uri, sealed)
    file = next((name for name in result.estimator), WEIGHTS)
    now = digest_of(result.estimator[file]) if file in result.estimator else _digest(result.weights)
    pinned = manifest.files[file].sha256
    return Reproduction(
        run_id=run_id,
        model=manifest.model,
        same=now == pinned,
        weights_then=pinned,
        weights_now=now,
        largest_difference=_largest_difference(weights, dict(result.weights)) if weights else None,
        differs=tuple(_differs(project, model, then, result)),
    )


def _as_then(model: Model, then: _Then) -> Model:
    """The model with as many workers as trained then, if they were the same all the time."""
    worlds = set(then.told.get("worlds", ()))
    if len(worlds) == 1:
        (world,) = worlds
        return replace(model, workers=(int(world), int(world)))
    return model


def _train(settings: Settings, project: Project, model: Model, then: _Then, progress: Progress) -> RunResult:
    pins = then.manifest.training
    rows = RowSource(
        settings=settings,
        table=pins.table,
        snapshot_id=pins.snapshot_id,
        inputs=then.manifest.inputs,
        order=("at", *(k for k in model.rows.key if k != "at")),
    )
    name = f"{then.manifest.run_key[:24]}-again"
    run_uri = f"{settings.warehouse.rstrip('/')}/runs/{model.name}/{name}"
    store, path = open_folders(run_uri)
    store.remove(path)  # of an earlier try: this one begins at the beginning
    address = project.address or project.where.file
    try:
        with declared("run", name):
            params = then.told.get("params", {})
            task = WorkerTask(address, model.name, rows, run_uri, _THREADS, params=params)
            carry_out(model, task, progress)
        return read_result(run_uri)
    finally:
        store.remove(path)


def _differs(project: Project, model: Model, then: _Then, result: RunResult) -> list[str]:
    code, was = pin_code(project), then.manifest.code
    found = []
    if code.project_sha256 != was.project_sha256:
        found.append(f"code: the project's files are not those of commit {was.git_commit[:12]}")
    if read_record(then.uri, DIFF, then.manifest_sha256) != code_diff(project):
        found.append("code: what differs from the commit is not the same")
    if code.git_commit != was.git_commit:
        found.append(f"code: the commit was {was.git_commit[:12]} and is {code.git_commit[:12]}")
    if model.feature_names != then.manifest.inputs:
        found.append("data: the project's features are not those of the run; the run's were used")
    if int(then.told.get("seed", model.seed)) != model.seed:
        found.append(f"seed: it was {then.told['seed']} and is {model.seed}")
    lock = read_record(then.uri, LOCK, then.manifest_sha256)
    found += lock_changes(lock, environment_lock()) if lock else ["environment: it was not kept"]
    found += changes("hardware", then.told.get("hardware", {}), result.hardware)
    worlds = then.told.get("worlds", [])
    if len(set(worlds)) > 1:
        found.append(
            f"workers: there were {' then '.join(map(str, worlds))}; sums of floats were in another order"
        )
    return found


def _digest(weights: Any) -> str:
    from safetensors.torch import save

    return digest_of(save({n: t.detach().cpu().clone().contiguous() for n, t in weights.items()}))


def _largest_difference(then: dict[str, Any], now: dict[str, Any]) -> float | None:
    if {n: t.shape for n, t in then.items()} != {n: t.shape for n, t in now.items()}:
        return None
    largest = [float((then[n].double() - now[n].double()).abs().max()) for n in then if then[n].numel()]
    return max(largest, default=0.0)
