"""Scoring a table: pinned, carried out, and committed once.

Knows the order of the steps and that a scoring that was committed is found again; it does not know where
its batches are scored (`tasks`) nor how (`scorer`). A crash before the commit leaves files that no snapshot
names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rayplat.cluster.owners import declared
from rayplat.core.errors import ConflictError, UserError
from rayplat.core.events import EventBus, TableScored
from rayplat.core.project.project import Project
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter, rows_property
from rayplat.data.lakehouse.files import DataFile
from rayplat.data.lakehouse.pins import Pins
from rayplat.data.lakehouse.table import LakeTable
from rayplat.features.distributed.tasks import connected
from rayplat.registry.model import RegisteredVersion
from rayplat.serve.bulk.plan import By, Rows, columns, plan, predictions_schema
from rayplat.serve.bulk.scorer import Scorer
from rayplat.serve.bulk.scoring import KEY, Scoring
from rayplat.serve.bulk.tasks import HERE_ROWS, here, on_ray
from rayplat.serve.loaded import trained

SOURCE = "scoring"
"""The source of the snapshots of predictions; its offset counts the scorings of a table."""
_PARTITION = "0"
_HELD_FOR = timedelta(days=2)
_TRIES = 30


@dataclass(frozen=True, slots=True)
class Scored:
    """What a scoring has made.

    Attributes:
        into: the table of the predictions, and the snapshot that brought them.
        rows: how many predictions.
        scoring: the key of the scoring, as in the column of that name.
        found: it had been done before; nothing was computed.
    """

    into: str
    snapshot_id: int
    rows: int
    model: str
    version: int
    scoring: str
    sources: dict[str, int]
    found: bool


class BulkScoring:
    """Scores tables on one platform.

    Args:
        bus: hears TableScored after each commit.
        few: so many rows are scored in this process; for more, Ray must be connected.
    """

    def __init__(self, settings: Settings, lake: Lakehouse, bus: EventBus, few: int = HERE_ROWS) -> None:
        self._settings = settings
        self._lake = lake
        self._bus = bus
        self._few = few

    def score(
        self, project: Project, version: RegisteredVersion, rows: Rows, into: str | None = None
    ) -> Scored:
        """Score the rows of a table by a registered version of a model of the project.

        Args:
            into: the table of the predictions; `predictions.<model>` if None. It has the keys of the table,
                `at`, `probability`, `version` and `scoring`, and a snapshot for each scoring.

        Raises:
            NotFoundError: a table, a snapshot or the artifact does not exist.
            IntegrityError: the artifact is not what was registered, or not signed.
            UserError: the table lacks a column, the filter cannot be read, or Ray is needed and not there.
            ConflictError: a snapshot that is needed is being expired.
        """
        model, _ = trained(
            self._settings, project, version.name, version.artifact_uri, version.manifest_sha256
        )
        by = By(project, model, version)
        scoring = plan(self._lake, by, rows, into or f"predictions.{version.name}")
        target = self._lake.ensure_schema(scoring.into, predictions_schema(self._lake, scoring))
        found = _found(target, scoring)
        if found is not None:
            return found
        made = self._commit(scoring, self._held_files(by, scoring, target))
        if not made.found:
            self._tell(scoring, made)
        return made

    def _held_files(self, by: By, scoring: Scoring, target: LakeTable) -> list[DataFile]:
        """The files, while nothing that is read can expire."""
        pins, holder = Pins(self._settings), f"scoring:{scoring.key[:24]}"
        until = datetime.now(UTC) + _HELD_FOR
        try:
            for name, snapshot_id in {**scoring.sources, scoring.table: scoring.snapshot_id}.items():
                pins.hold(name, snapshot_id, holder, until)
            return self._files(by, scoring, target)
        finally:
            pins.release(holder)
            pins.close()

    def _files(self, by: By, scoring: Scoring, target: LakeTable) -> list[DataFile]:
        table = self._lake.table(scoring.table)
        wanted = columns(scoring.keys, scoring.time, by.model)
        scan = table.scan(wanted, scoring.where, scoring.snapshot_id)
        scorer = Scorer(self._settings, scoring, target.writer())
        if table.count(scoring.snapshot_id) <= self._few:
            return list(here(scan, scorer, by.model, self._lake))
        if not connected():
            raise UserError(
                f"{scoring.table!r} has more than {self._few:,} rows, and no Ray is connected",
                "start the platform: rayplat up",
            )
        with declared("job", f"score-{scoring.key[:12]}"):
            return list(on_ray(scan, scorer, by.model, self._lake))

    def _commit(self, scoring: Scoring, files: Sequence[DataFile]) -> Scored:
        """One snapshot with all predictions; whoever scored the same meanwhile has done it."""
        count = sum(file.rows for file in files)
        properties = {**scoring.properties(), **rows_property(count)}
        tries = 0
        while True:
            tries += 1
            committer = FencedCommitter(self._lake, scoring.into, SOURCE)
            expected = committer.committed()
            found = _found(committer.table, scoring)
            if found is not None:
                return found
            try:
                snapshot_id = committer.commit(
                    files, expected, {_PARTITION: expected.get(_PARTITION, 0) + 1}, properties
                )
            except ConflictError:
                if tries == _TRIES:
                    raise
                continue
            return _told(scoring, snapshot_id, count, found=False)

    def _tell(self, scoring: Scoring, made: Scored) -> None:
        self._bus.emit(
            TableScored(
                model=made.model,
                version=made.version,
                table=scoring.table,
                read=scoring.snapshot_id,
                into=made.into,
                snapshot_id=made.snapshot_id,
                rows=made.rows,
                sources=made.sources,
            )
        )


def _found(target: LakeTable, scoring: Scoring) -> Scored | None:
    for snapshot in reversed(target.history()):
        if snapshot.properties.get(KEY) == scoring.key:
            return _told(scoring, snapshot.snapshot_id, snapshot.rows_added, found=True)
    return None


def _told(scoring: Scoring, snapshot_id: int, rows: int, *, found: bool) -> Scored:
    return Scored(
        into=scoring.into,
        snapshot_id=snapshot_id,
        rows=rows,
        model=scoring.model,
        version=scoring.version,
        scoring=scoring.key[:24],
        sources=dict(scoring.sources),
        found=found,
    )
