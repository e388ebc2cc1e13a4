"""The versions beside the one that is to answer: the challenger, and the champion before.

Knows which aliases name them and when they are wanted; it does not know what they are asked.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rayplat.core.project.serving import Traffic

if TYPE_CHECKING:
    from rayplat.registry.model import RegisteredVersion
    from rayplat.registry.store import Registry

CHALLENGER = "challenger"
PREVIOUS = "previous"
"""The alias of the version that was champion before; whoever moves the champion sets it."""


@dataclass(frozen=True, slots=True)
class VersionAt:
    """A registered version, as a replica needs it."""

    version: int
    artifact_uri: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Others:
    """See the module; None: there is none, or it is not wanted."""

    challenger: VersionAt | None = None
    previous: VersionAt | None = None

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "Others":
        """What `dataclasses.asdict` has made."""
        return cls(**{name: None if one is None else VersionAt(**one) for name, one in told.items()})


def find_others(registry: "Registry", model: str, version: int, traffic: Traffic) -> Others:
    """The versions beside `version`: the challenger where it has a share, and the champion before."""
    wanted = traffic.canary > 0 or traffic.shadow > 0
    return Others(
        _other(registry.by_alias(model, CHALLENGER), version) if wanted else None,
        _other(registry.by_alias(model, PREVIOUS), version),
    )


def _other(found: "RegisteredVersion | None", version: int) -> VersionAt | None:
    if found is None or found.version == version:
        return None
    return VersionAt(found.version, found.artifact_uri, found.manifest_sha256)
