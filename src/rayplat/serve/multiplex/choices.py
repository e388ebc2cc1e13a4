"""The models and versions that an endpoint answers with beside its own: what each is called, and where it is.

Knows how a declaration becomes registered versions; it does not know how one is loaded. They are looked up
when the endpoint is deployed, with the digests that the registry has then: a replica loads nothing else.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayplat.core.project.serving import Multiplex
from rayplat.core.telemetry import get_logger

if TYPE_CHECKING:
    from rayplat.registry.store import Registry

_CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class Choice:
    """A version that may be asked for.

    Attributes:
        name: that callers give: of a model whose champion it is, or the number of a version of the endpoint's
            own model.
    """

    name: str
    model: str
    version: int
    artifact_uri: str
    manifest_sha256: str


def find_choices(registry: "Registry", model: str, declared: Multiplex | None) -> tuple[Choice, ...]:
    """What an endpoint of `model` may be asked for.

    A model without a champion yet is left out: the others are not to wait for it.

    Raises:
        NotFoundError: a version is not registered.
    """
    if declared is None:
        return ()
    found = []
    for name in declared.models:
        champion = registry.by_alias(name, _CHAMPION)
        if champion is None:
            get_logger("serve.multiplex").warning("a model has no champion and is left out", model=name)
            continue
        found.append(Choice(name, name, champion.version, champion.artifact_uri, champion.manifest_sha256))
    for number in declared.versions:
        version = registry.version(model, number)
        found.append(Choice(str(number), model, number, version.artifact_uri, version.manifest_sha256))
    return tuple(found)
