"""A scoring: everything that decides what a table's predictions are.

Knows what is pinned and how the result is named; it does not know how rows are read or scored.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import orjson

from rayplat.features.definition import digest_of

PREFIX = "rayplat.scoring."
KEY = f"{PREFIX}key"
PROBABILITY, AT, VERSION, SCORING = "probability", "at", "version", "scoring"
"""Columns of a table of predictions, after the keys."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """One table at one snapshot by one version; pickles.

    Attributes:
        project: its address, as other nodes find it.
        model, version, artifact_uri, manifest_sha256: the registered version.
        table, snapshot_id, where: the rows; `where` is an Iceberg filter.
        keys: the columns that name a row.
        time: the column with the time that features are as of; "" where `at` is the time of all rows.
        at: see there, UTC.
        sources: the snapshot of each table that features are made of.
        into: the table of the predictions.
    """

    project: str
    model: str
    version: int
    artifact_uri: str
    manifest_sha256: str
    table: str
    snapshot_id: int
    where: str | None
    keys: tuple[str, ...]
    time: str
    at: datetime | None
    sources: Mapping[str, int]
    into: str

    @property
    def key(self) -> str:
        """The digest of what decides the result: the same scoring again is the same key."""
        decides = asdict(self)
        # Where things are does not matter: the digest of the manifest says what they are.
        del decides["project"], decides["artifact_uri"]
        decides["at"] = None if self.at is None else self.at.isoformat()
        decides["keys"] = list(self.keys)
        return digest_of(decides)

    def properties(self) -> dict[str, str]:
        """What the snapshot of the predictions says of itself: its lineage."""
        told: dict[str, object] = {
            "key": self.key,
            "model": self.model,
            "version": self.version,
            "manifest_sha256": self.manifest_sha256,
            "table": self.table,
            "snapshot_id": self.snapshot_id,
            "where": self.where or "",
            "as_of": self.time or (self.at.isoformat() if self.at else ""),
            "sources": orjson.dumps(dict(self.sources), option=orjson.OPT_SORT_KEYS).decode(),
        }
        return {f"{PREFIX}{name}": str(value) for name, value in told.items()}
