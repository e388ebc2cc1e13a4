"""The registry on MLflow: runs, versions and aliases in the platform's database.

Knows how a run becomes one registered version however often the work is killed and done again; it
does not know what an artifact holds (`artifact`). MLflow is imported when a method is first called.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rayplat.core.errors import ConflictError, NotFoundError
from rayplat.core.settings import Settings
from rayplat.registry.model import RegisteredVersion, RunInfo
from rayplat.registry.store_database import open_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

RUN_KEY = "rayplat.run_key"
MANIFEST_SHA256 = "rayplat.manifest_sha256"
ARTIFACT_URI = "rayplat.artifact_uri"
MODEL = "rayplat.model"
_ALIAS = "rayplat.alias."
_ANNOUNCED = "rayplat.announced"
_PAGE = 1000


def _no_step(name: str) -> None:
    """Nobody watches the steps of `register`."""


class Registry:
    """Runs and model versions. Cheap to make: the database is opened at the first call.

    Args:
        settings: `database` holds the tables, `warehouse` the artifacts.
        step: called after each durable step of `register` and `log_run`; tests kill the process there.
    """

    def __init__(self, settings: Settings, *, step: Callable[[str], None] = _no_step) -> None:
        self._settings = settings
        self._step = step
        self._lock = threading.Lock()
        self._opened: MlflowClient | None = None

    def __reduce__(self) -> tuple[type["Registry"], tuple[Settings]]:
        return type(self), (self._settings,)

    def artifact_uri(self, model: str, run_key: str) -> str:
        """Where the artifact of a run belongs."""
        return f"{self._settings.warehouse.rstrip('/')}/models/{model}/{run_key[:24]}"

    def models(self) -> list[str]:
        """The names of all registered models, sorted."""
        found: list[str] = []
        token: str | None = None
        while True:
            page = self._client.search_registered_models(max_results=_PAGE, page_token=token)
            found += [model.name for model in page]
            token = page.token
            if not token:
                return sorted(found)

    def find_run(self, run_key: str) -> RunInfo | None:
        """The finished run of this key, or None."""
        run = self._run_of(run_key, "FINISHED")
        return None if run is None else _run_info(run)

    def run(self, run_id: str) -> RunInfo:
        """A run by its id.

        Raises:
            NotFoundError: there is no such run.
        """
        from mlflow.exceptions import MlflowException

        try:
            return _run_info(self._client.get_run(run_id))
        except MlflowException as error:
            raise NotFoundError(f"there is no run {run_id!r}", "take the id from a model version") from error

    def curves(self, run_id: str, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        """The points (step, value) of each named curve of a run, by step."""
        return {
            name: sorted((m.step, m.value) for m in self._client.get_metric_history(run_id, name))
            for name in names
        }

    def log_run(
        self,
        model: str,
        run_key: str,
        *,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[tuple[int, float]]],
        tags: Mapping[str, str],
        artifact_uri: str,
        files: Mapping[str, str] | None = None,
    ) -> str:
        """Write down a finished run, once per run_key; the run's id.

        `files` are texts by name, shown beside the run; empty ones are left out. With the warehouse in an
        object store they are in the artifact alone: MLflow would need clients of its own for it.

        A run that a killed process left half written is completed, not doubled: its rows are keyed by
        (metric, step, time), and the time is the run's own start.
        """
        from mlflow.entities import Metric, Param, RunTag

        finished = self._run_of(run_key, "FINISHED")
        if finished is not None:
            return str(finished.info.run_id)
        run = self._run_of(run_key, "RUNNING")
        if run is None:
            own = {RUN_KEY: run_key, ARTIFACT_URI: artifact_uri, MODEL: model}
            run = self._client.create_run(self._experiment(model), tags=own, run_name=run_key[:12])
            self._step("run_created")
        run_id, at = str(run.info.run_id), int(run.info.start_time)
        # MLflow takes at most 100 parameters and 1000 metrics in a batch.
        texts = [Param(k, str(v)) for k, v in params.items()]
        for i in range(0, len(texts), 100):
            self._client.log_batch(run_id, params=texts[i : i + 100])
        self._client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        points = [Metric(k, v, at, s) for k, curve in curves.items() for s, v in curve]
        points += [Metric(k, v, at, 0) for k, v in metrics.items() if k not in curves]
        for i in range(0, len(points), _PAGE):
            self._client.log_batch(run_id, metrics=points[i : i + _PAGE])
        for name, text in (files or {}).items():
            if text and self._settings.warehouse.startswith("file://"):
                self._client.log_text(run_id, text, name)
        self._step("run_logged")
        self._client.set_terminated(run_id, status="FINISHED")
        self._step("run_finished")
        return run_id

    def register(
        self, model: str, run_id: str, artifact_uri: str, manifest_sha256: str, run_key: str
    ) -> RegisteredVersion:
        """Register an artifact as a version, once per run_key.

        The version and its run_key are written in one transaction; of two processes that register the
        same run at once, the later one sees both versions, drops its own and returns the first.

        Raises:
            ConflictError: the run_key is registered with another manifest.
        """
        from mlflow.exceptions import MlflowException

        if not self._versions(model, run_key):
            try:
                self._client.create_registered_model(model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            self._step("model_created")
            tags = {RUN_KEY: run_key, MANIFEST_SHA256: manifest_sha256}
            self._client.create_model_version(model, artifact_uri, run_id=run_id, tags=tags)
            self._step("version_created")
        first, *later = sorted(self._versions(model, run_key), key=lambda v: int(v.version))
        for version in later:
            self._client.delete_model_version(model, str(version.version))
        self._step("version_settled")
        if first.tags[MANIFEST_SHA256] != manifest_sha256:
            raise ConflictError(
                f"{model} version {first.version} was registered with manifest "
                f"{first.tags[MANIFEST_SHA256][:16]}…, not {manifest_sha256[:16]}…",
                "remove the artifact that is not registered, and train again",
            )
        return self.version(model, int(first.version))

    def set_alias(self, model: str, alias: str, version: int, actor: str, reason: str) -> int | None:
        """Point an alias at a version; the version that it pointed at before, or None.

        Who did it and why is kept as a tag of the version. The caller emits `AliasMoved`.

        Raises:
            NotFoundError: there is no such version.
        """
        self.version(model, version)
        previous = self.by_alias(model, alias)
        note = {"actor": actor, "reason": reason, "at": datetime.now(UTC).isoformat()}
        self._client.set_model_version_tag(model, str(version), _ALIAS + alias, json.dumps(note))
        self._client.set_registered_model_alias(model, alias, str(version))
        return previous.version if previous else None

    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        """The version that an alias points at, or None."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_model_version_by_alias(model, alias)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise
        return self.version(model, int(found.version))

    def version(self, model: str, version: int) -> RegisteredVersion:
        """A version by its number.

        Raises:
            NotFoundError: there is no such version.
        """
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_model_version(model, str(version))
        except MlflowException as error:
            raise NotFoundError(
                f"there is no version {version} of the model {model!r}", "list its versions"
            ) from error
        return _registered(found)

    def versions(self, model: str) -> list[RegisteredVersion]:
        """All versions of a model, oldest first; none for a model that is not registered."""
        return [self.version(model, int(v.version)) for v in self._versions(model, None)]

    def announced(self, model: str, version: int) -> bool:
        """Whether the events of this version were emitted to the end (see `set_announced`)."""
        return _ANNOUNCED in self._client.get_model_version(model, str(version)).tags

    def set_announced(self, model: str, version: int) -> None:
        """Note that the events of this version were emitted: a rerun emits them only if it was killed
        before this."""
        self._client.set_model_version_tag(model, str(version), _ANNOUNCED, "true")

    @property
    def _client(self) -> "MlflowClient":
        with self._lock:
            if self._opened is None:
                self._opened = open_client(self._settings.database)
            return self._opened

    def _experiment(self, model: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(model)
        if found is None:
            try:
                location = f"{self._settings.warehouse.rstrip('/')}/mlflow/{model}"
                return str(self._client.create_experiment(model, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self._experiment(model)
        return str(found.experiment_id)

    def _run_of(self, run_key: str, status: str) -> "Run | None":
        experiments = [e.experiment_id for e in self._client.search_experiments(max_results=_PAGE)]
        runs = self._client.search_runs(
            experiments,
            filter_string=f"tags.`{RUN_KEY}` = '{run_key}' and attributes.status = '{status}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return runs[0] if runs else None

    def _versions(self, model: str, run_key: str | None) -> "list[ModelVersion]":
        query = f"name = '{model}'" + (f" and tags.`{RUN_KEY}` = '{run_key}'" if run_key else "")
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self._client.search_model_versions(query, max_results=_PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda v: int(v.version))


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _run_info(run: "Run") -> RunInfo:
    tags = dict(run.data.tags)
    return RunInfo(
        run_id=run.info.run_id,
        model=tags.get(MODEL, ""),
        run_key=tags.get(RUN_KEY, ""),
        artifact_uri=tags.get(ARTIFACT_URI, ""),
        metrics=dict(run.data.metrics),
        params=dict(run.data.params),
        tags=tags,
        started_at=_time(run.info.start_time),
        ended_at=_time(run.info.end_time) if run.info.end_time else None,
    )


def _registered(found: "ModelVersion") -> RegisteredVersion:
    return RegisteredVersion(
        name=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        artifact_uri=found.source or "",
        manifest_sha256=found.tags.get(MANIFEST_SHA256, ""),
        aliases=tuple(sorted(found.aliases)),
        created_at=_time(found.creation_timestamp),
    )
