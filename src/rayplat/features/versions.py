"""Versions of feature definitions: every definition that was applied, numbered, kept for ever.

Knows which definition is which version, and gives an old one back; it does not know which model uses it.

A changed definition is a new version of its view; a definition that comes back is a new version, too, with
the digest of the former. What describes a view to people (owner, tags) is kept with the version and makes
no new one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import orjson
import sqlalchemy as sa

from rayplat.core.database import open_tables, reading, writing
from rayplat.core.events import EventBus, FeatureViewApplied
from rayplat.core.project.project import Project
from rayplat.core.project.view import FeatureView, View
from rayplat.core.settings import Settings
from rayplat.features.definition import describe_as_asked, digest_of
from rayplat.features.differences import differences

_LOCK = 0x7261_7907
_METADATA = sa.MetaData()
_VERSIONS = sa.Table(
    "feature_versions",
    _METADATA,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("view", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.Text, nullable=False, index=True),
    sa.Column("described", sa.Text, nullable=False),
    sa.Column("about", sa.Text, nullable=False),
    sa.Column("applied_by", sa.Text, nullable=False),
    sa.Column("applied_at", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class ViewVersion:
    """One applied definition of a view.

    Attributes:
        digest: see `definition.digest_as_asked`.
        described: see `definition.describe_as_asked`; `restore.restore` makes a view of it.
        about: what tells people of it: owner, tags, description, required features.
        applied_at: when (UTC).
    """

    project: str
    view: str
    version: int
    digest: str
    described: Mapping[str, Any]
    about: Mapping[str, Any]
    applied_by: str
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What applying does, or has done, to one view.

    Attributes:
        kind: `new`, `changed`, `same`, or `gone`: applied before, and no longer in the project; it stays.
        version: the version that the view has after it.
        before: the version that it had; None of a new one.
        differences: what is different from that one, for people.
    """

    view: str
    kind: str
    version: int
    before: int | None
    digest: str
    differences: tuple[str, ...] = ()


class FeatureVersions:
    """The applied definitions of a platform. Safe for many processes and threads at once.

    Args:
        settings: names the database.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_tables(self.settings.database, _METADATA, _LOCK)

    def compare(self, project: Project) -> list[Change]:
        """What `apply` would do now, in the order of the project's views; those that are gone come last."""
        with reading(self._engine) as connection:
            changes = _compared(connection, project.name, project.views)
            current = _current(connection, project.name)
        declared = {view.name for view in project.views}
        gone = [v for name, v in current.items() if name not in declared]
        return changes + [Change(v.view, "gone", v.version, v.version, v.digest) for v in gone]

    def apply(
        self,
        project: Project,
        actor: str,
        views: Sequence[View] | None = None,
        bus: EventBus | None = None,
    ) -> list[Change]:
        """Register the definitions that are new or changed, in one transaction; again, it does nothing.

        Args:
            project: names the versions.
            actor: who applies them.
            views: only these; all views of the project where not given.
            bus: hears FeatureViewApplied for each version that was made.

        Returns:
            what was done, in the order of the views.

        Raises:
            UserError: the code of a Python feature cannot be read.
            UnavailableError: the database did not take it; nothing was applied.
        """
        wanted = project.views if views is None else views
        with reading(self._engine) as connection:
            changes = _compared(connection, project.name, wanted)
        if all(change.kind == "same" for change in changes):
            return changes  # no writer waits for a training run that changes nothing
        with writing(self._engine, _LOCK) as connection:
            # Compared again: another process may have applied the same in between.
            changes = _compared(connection, project.name, wanted)
            rows = [
                _row(project.name, view, change, actor)
                for view, change in zip(wanted, changes, strict=True)
                if change.kind != "same"
            ]
            if rows:
                connection.execute(_VERSIONS.insert(), rows)
        if bus is not None:
            for event in _events(project.name, changes, actor):
                bus.emit(event)
        return changes

    def history(self, project: str, view: str) -> list[ViewVersion]:
        """Every version of a view, oldest first; empty if it was never applied."""
        mine = (_VERSIONS.c.project == project) & (_VERSIONS.c.view == view)
        with reading(self._engine) as connection:
            query = _VERSIONS.select().where(mine).order_by(_VERSIONS.c.version)
            return [_version(row) for row in connection.execute(query)]

    def by_digest(self, digest: str) -> ViewVersion | None:
        """The newest version with this digest, of whatever project; None if it was never applied."""
        newest = _VERSIONS.c.applied_at.desc(), _VERSIONS.c.version.desc()
        query = _VERSIONS.select().where(_VERSIONS.c.digest == digest).order_by(*newest).limit(1)
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
        return None if row is None else _version(row)

    def close(self) -> None:
        """Close the connections."""
        if "_engine" in self.__dict__:
            self._engine.dispose()
            del self.__dict__["_engine"]


def _current(connection: sa.Connection, project: str) -> dict[str, ViewVersion]:
    query = _VERSIONS.select().where(_VERSIONS.c.project == project).order_by(_VERSIONS.c.version)
    return {row.view: _version(row) for row in connection.execute(query)}


def _compared(connection: sa.Connection, project: str, views: Sequence[View]) -> list[Change]:
    current = _current(connection, project)
    return [_change(view, current.get(view.name)) for view in views]


def _change(view: View, current: ViewVersion | None) -> Change:
    described = describe_as_asked(view)
    digest = digest_of(described)
    if current is None:
        return Change(view.name, "new", 1, None, digest)
    if current.digest == digest:
        return Change(view.name, "same", current.version, current.version, digest)
    told = differences(current.described, described)
    return Change(view.name, "changed", current.version + 1, current.version, digest, told)


def _events(project: str, changes: Sequence[Change], actor: str) -> list[FeatureViewApplied]:
    return [
        FeatureViewApplied(
            project=project,
            view=change.view,
            version=change.version,
            before=change.before or 0,
            digest=change.digest,
            actor=actor,
        )
        for change in changes
        if change.kind != "same"
    ]


def _row(project: str, view: View, change: Change, actor: str) -> dict[str, Any]:
    about: dict[str, Any] = {"owner": view.owner, "tags": dict(view.tags), "description": view.description}
    if isinstance(view, FeatureView):
        about["required"] = list(view.required)
    return {
        "project": project,
        "view": view.name,
        "version": change.version,
        "digest": change.digest,
        "described": orjson.dumps(describe_as_asked(view)).decode(),
        "about": orjson.dumps(about).decode(),
        "applied_by": actor,
        "applied_at": datetime.now(UTC).isoformat(),
    }


def _version(row: Any) -> ViewVersion:
    return ViewVersion(
        project=row.project,
        view=row.view,
        version=row.version,
        digest=row.digest,
        described=orjson.loads(row.described),
        about=orjson.loads(row.about),
        applied_by=row.applied_by,
        applied_at=datetime.fromisoformat(row.applied_at),
    )
