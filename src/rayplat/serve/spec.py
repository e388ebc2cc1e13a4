"""What a replica is told: plain values, so that it can be started on any node.

Knows which facts decide whether a running endpoint is the wanted one; it does not know Ray.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from rayplat.core.project.serving import Answering, Autoscale, Hours, Logging, Traffic
from rayplat.core.settings import Settings
from rayplat.serve.multiplex.choices import Choice
from rayplat.serve.others import Others


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """An endpoint with a version of its model.

    Attributes:
        project: the address that the replica loads the project from.
        definitions_sha256: of the model's view definitions, so that a changed project is deployed again.
        manifest_sha256: what the artifact must be.
        autoscale: how many replicas, and what each asks for.
        answering: batches, times and limits.
        logging: which share of predictions is logged; how durably is in `settings`.
        traffic: which share of requests goes to a challenger.
        others: the versions beside the one that is to answer.
        choices: the models and versions beside its own that it answers with; see `Multiplex`.
        kept_choices, choices_mib: how many and how large ones are loaded at a time.
        stream_sha256: of the generator's source, so that a changed one is deployed again; empty: none.
        kept: whether a keeper deals the connections of a front; else each replica listens for itself.
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
    answering: Answering = field(default_factory=Answering)
    logging: Logging = field(default_factory=Logging)
    traffic: Traffic = field(default_factory=Traffic)
    kept: bool = False
    others: Others = field(default_factory=Others)
    stream_sha256: str = ""
    choices: tuple[Choice, ...] = ()
    kept_choices: int = 4
    choices_mib: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON values. It holds the platform's settings, secrets among them."""
        told = asdict(self)
        told["settings"] = self.settings.model_dump(mode="json")
        return told

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "EndpointSpec":
        """What `to_json` has made."""
        scale = dict(told["autoscale"])
        scale["schedule"] = tuple(
            Hours(**{**hours, "days": tuple(hours["days"])}) for hours in scale["schedule"]
        )
        return cls(
            **{
                **told,
                "settings": Settings.model_validate(told["settings"]),
                "autoscale": Autoscale(**scale),
                "answering": Answering(**told["answering"]),
                "logging": Logging(**told["logging"]),
                "traffic": Traffic(**told["traffic"]),
                "others": Others.from_json(told["others"]),
                "choices": tuple(Choice(**one) for one in told["choices"]),
            }
        )

    def fingerprint(self) -> str:
        """SHA-256 (hex) over everything above: equal for an endpoint that need not be deployed again."""
        door = self.settings.serve
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
            [asdict(self.autoscale), asdict(self.answering), asdict(self.logging), asdict(self.traffic)],
            [self.kept, door.front_port, asdict(self.others), self.stream_sha256],
            [[asdict(one) for one in self.choices], self.kept_choices, self.choices_mib],
            # Who is let in, and what an answer promises: replicas that hold to older settings are replaced.
            [door.auth, door.jwt_keys, door.jwt_issuer, door.jwt_audience, door.log, door.log_sync],
        ]
        return hashlib.sha256(orjson.dumps(told)).hexdigest()
