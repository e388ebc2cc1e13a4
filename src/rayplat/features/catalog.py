"""What there is to know of a view: definition, owner, lineage, personal data, versions, freshness.

Knows declarations, applied versions and the online store's progress; it does not know models (`registry`)
nor how anything is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rayplat.core.project.feature_types import feature_types
from rayplat.core.project.lineage import lineage, personal, personal_keys
from rayplat.core.project.view import DerivedView, FeatureView, View, asking_columns, upstream
from rayplat.features.definition import describe_as_asked, digest_as_asked
from rayplat.features.lake import Lake
from rayplat.features.online.keys import store_key
from rayplat.features.online.store import OnlineStore
from rayplat.features.plan import plan
from rayplat.features.versions import FeatureVersions


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far the online values of a view have come.

    Attributes:
        materialized: whether they ever were; `current`: whether the source has nothing newer.
        snapshot_id: the last snapshot of the source that they hold whole.
        rows_behind: rows of the source's log that they do not hold yet; None where it has no log.
    """

    materialized: bool
    current: bool
    snapshot_id: int | None
    rows_behind: int | None


@dataclass(frozen=True, slots=True)
class VersionTold:
    """One applied version of a view, for people."""

    version: int
    digest: str
    applied_by: str
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class ViewCard:
    """One view, for people and programs.

    Attributes:
        kind: `row`, `window`, `request` or `on-demand`.
        asks: the columns that an asking row must have.
        features: by name, its type and the source columns (`table.column`) that it is made of.
        personal: the features that are made of personal data; `personal_keys`: such entity columns.
        version: the applied version that the project's definition is; None: it is not applied.
        freshness: of the online values; None of a view that has none.
    """

    view: str
    kind: str
    source: str | None
    views: tuple[str, ...]
    entity: tuple[str, ...]
    asks: tuple[str, ...]
    owner: str
    description: str
    tags: Mapping[str, str]
    features: Mapping[str, Mapping[str, Any]]
    personal: tuple[str, ...]
    personal_keys: tuple[str, ...]
    required: tuple[str, ...]
    definition: Mapping[str, Any]
    digest: str
    version: int | None
    versions: tuple[VersionTold, ...]
    freshness: Freshness | None


def card_of(view: View, project: str, versions: FeatureVersions, lake: Lake, online: OnlineStore) -> ViewCard:
    """Everything that is known of a view of a project by the data platform.

    Raises:
        UnavailableError: the database or the online store does not answer.
    """
    told = versions.history(project, view.name)
    digest = digest_as_asked(view)
    return ViewCard(
        view=view.name,
        kind=kind_of(view),
        source=None if view.source is None else view.source.name,
        views=tuple(one.name for one in upstream(view)),
        entity=view.entity if isinstance(view, FeatureView) else (),
        asks=asking_columns([view]),
        owner=view.owner,
        description=view.description,
        tags=dict(view.tags),
        features=_features(view),
        personal=personal(view),
        personal_keys=personal_keys(view),
        required=view.required if isinstance(view, FeatureView) else (),
        definition=describe_as_asked(view),
        digest=digest,
        version=told[-1].version if told and told[-1].digest == digest else None,
        versions=tuple(VersionTold(v.version, v.digest, v.applied_by, v.applied_at) for v in told),
        freshness=freshness(view, lake, online) if isinstance(view, FeatureView) else None,
    )


def kind_of(view: View) -> str:
    """`row`, `window`, `request` or `on-demand`."""
    if isinstance(view, FeatureView):
        return "window" if view.windowed else "row"
    return "on-demand" if isinstance(view, DerivedView) else "request"


def freshness(view: FeatureView, lake: Lake, online: OnlineStore) -> Freshness:
    """How far the online values of a view have come, against its source as it is now."""
    key = store_key(plan(view))
    progress = online.read(lambda reader: reader.progress(key))
    table = lake.table(view.source.name) if lake.exists(view.source.name) else None
    now = None if table is None else table.snapshot_id()
    if progress is None:
        return Freshness(False, False, None, None)
    ends = [s.offsets for s in table.history() if s.offsets] if table is not None else []
    behind = None
    if ends:
        behind = sum(max(0, end - progress.offsets.get(p, 0)) for p, end in ends[-1].items())
    return Freshness(True, progress.snapshot_id == now, progress.snapshot_id, behind)


def _features(view: View) -> dict[str, dict[str, Any]]:
    types = feature_types(view)
    made_of = lineage(view)
    return {
        feature: {
            "type": str(types[full]) if full in types else None,
            "made_of": sorted(f"{table}.{column}" for table, column in made_of[full]),
        }
        for feature, full in zip(view.features, view.names, strict=True)
    }
