"""Runs and registered versions as values.

Knows what is told of a run and of a version; it does not know where they are kept (`store`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A finished training run.

    Attributes:
        run_key: the digest of everything that determines the result; one finished run has it.
        artifact_uri: the folder of the artifact that the run wrote.
        metrics: the last value of each metric, by name.
    """

    run_id: str
    model: str
    run_key: str
    artifact_uri: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version of a model in the registry.

    Attributes:
        manifest_sha256: the digest of the artifact's manifest, hex; reading the artifact with it
            proves every byte.
        aliases: the aliases that point here now, sorted.
    """

    name: str
    version: int
    run_id: str
    artifact_uri: str
    manifest_sha256: str
    aliases: tuple[str, ...]
    created_at: datetime
