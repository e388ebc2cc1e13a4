"""What a replica is told: plain values, so that it can be started on any node.

Knows which facts decide whether a running endpoint is the wanted one; it does not know Ray.
"""

import hashlib
from dataclasses import dataclass

import orjson

from rayplat.core.project.model import Autoscale
from rayplat.core.settings import Settings


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """An endpoint with a version of its model.

    Attributes:
        project: the address that the replica loads the project from.
        definitions_sha256: of the model's view definitions, so that a changed project is deployed again.
        manifest_sha256: what the artifact must be.
        autoscale: how many replicas, and what each asks for.
    """

    settings: Settings
    project: str
    definitions_sha256: str
    endpoint: str
    model: str
    version: int
    artifact_uri: str
    manifest_sha256: str
    autoscale: Autoscale

    def fingerprint(self) -> str:
        """SHA-256 (hex) over everything above: equal for an endpoint that need not be deployed again."""
        scale, door = self.autoscale, self.settings.serve
        told = [
            self.settings.database,
            self.settings.warehouse,
            self.settings.online,
            self.project,
            self.definitions_sha256,
            self.endpoint,
            self.model,
            self.version,
            self.artifact_uri,
            self.manifest_sha256,
            [scale.least, scale.most, scale.cpus, scale.gpus],
            # Who is let in, and what an answer promises: replicas that hold to older settings are replaced.
            [door.auth, door.jwt_keys, door.jwt_issuer, door.jwt_audience, door.log, door.log_sync],
        ]
        return hashlib.sha256(orjson.dumps(told)).hexdigest()
