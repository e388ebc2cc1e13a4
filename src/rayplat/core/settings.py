"""The settings: one frozen tree, the only place where the environment is read.

Knows every knob, its default and its meaning; it does not know what a knob does to a store.
"""

import getpass
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rayplat.core.secrets import masked

_URL = re.compile(r"^(?P<scheme>[a-z][a-z0-9+.\-]*)://(?P<rest>.*)$", re.IGNORECASE | re.DOTALL)


def absolute_address(address: str, base: Path) -> str:
    """An address whose local path does not depend on the working folder.

    Args:
        address: a URL, or a plain path (taken as `file://`). `file://`, and `sqlite:///` (as in
            SQLAlchemy) and `lmdb:///` may hold a relative path; every other URL is returned as it is.
        base: the absolute folder that relative paths are against.
    """
    match = _URL.match(address)
    if match is None:
        return f"file://{_absolute(address, base)}"
    scheme, rest = match["scheme"].lower(), match["rest"]
    if scheme == "file":
        return f"file://{_absolute(rest, base)}"
    if scheme.startswith(("sqlite", "lmdb")) and rest.startswith("/") and rest not in ("/", "/:memory:"):
        return f"{match['scheme']}:///{_absolute(rest[1:], base)}"
    return address


def _absolute(path: str, base: Path) -> Path:
    return base / Path(path).expanduser()


def _operating_system_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run under a uid that has no name
        return "unknown"


class _Part(BaseModel):
    # Errors must not repeat the input: it may hold a password.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, masked(name or "", value)) for name, value in super().__repr_args__()]


class CatalogSettings(_Part):
    """Which catalog names the tables."""

    kind: Literal["sql", "rest", "glue"] = Field(
        "sql", description="sql: kept in `database`; rest: an Iceberg REST catalog; glue: AWS Glue"
    )
    uri: str = Field(
        "", description="address of a REST catalog, or another address of Glue; empty: AWS's own"
    )
    options: dict[str, str] = Field(
        {}, description="further pyiceberg options, such as credential or glue.id"
    )


class S3Settings(_Part):
    """How S3 is reached; whatever is empty comes from the environment's own AWS configuration."""

    endpoint: str = Field("", description="another address of S3, such as MinIO's; empty: AWS's own")
    region: str = Field("", description="the AWS region")
    access_key: str = Field("", description="the access key's id")
    secret_key: str = Field("", description="the access key's secret")


class KafkaSettings(_Part):
    """How Kafka is reached."""

    bootstrap: str = Field("", description="host:port of the brokers; empty: the development broker")
    options: dict[str, str] = Field({}, description="further librdkafka options, such as sasl.username")


class KinesisSettings(_Part):
    """How Kinesis is reached. A source may name its own region and endpoint."""

    region: str = Field("", description="AWS region; empty: that of the environment")
    endpoint: str = Field("", description="another address of the service; empty: AWS")
    access_key: str = Field("", description="access key; empty: what the environment or the machine has")
    secret_key: str = Field("", description="secret of the access key")
    trimmed: Literal["stop", "accept"] = Field(
        "stop", description="when the last record read is not in the stream any more: stop, or accept a gap"
    )


class FilesSettings(_Part):
    """How files that arrive are noticed."""

    settle_s: float = Field(
        1.0, ge=0, description="how long a local file must be unchanged before it is read, s"
    )


class SchemaRegistrySettings(_Part):
    """How the schema registry of Avro and Protobuf records is reached."""

    url: str = Field("", description="http(s)://host:port of the registry; empty: there is none")
    user: str = Field("", description="user for basic authentication; empty: none")
    password: str = Field("", description="password of the user")
    ca: str = Field("", description="file of the authority that signed its certificate; empty: the system's")


class IngestSettings(_Part):
    """How events are read."""

    batch_rows: int = Field(100_000, ge=1, description="most records of a partition in one commit")
    batch_bytes: int = Field(64 * 2**20, ge=1, description="most bytes of a partition in one commit, about")
    poll_timeout_s: float = Field(10.0, gt=0, description="longest wait for a broker that is silent, s")
    trigger_s: float = Field(0.25, gt=0, description="the service looks for new records so often, s")
    trigger_rows: int = Field(100_000, ge=1, description="the service commits when it has so many records")
    restarts: int = Field(10, ge=0, description="how often in a row the service tries a table again")
    metrics_port: int = Field(0, ge=0, description="loopback port of the service's metrics; 0: off")


class RaySettings(_Part):
    """The Ray that `rayplat up` starts, or the one that it joins."""

    address: str = Field("", description="address of a running cluster; empty: start one on this machine")
    spec: str = Field(
        "cluster/platform.yaml", description="the cluster file; the defaults if it is not there"
    )
    bind: str = Field("127.0.0.1", description="the address that everything listens on")
    cpus: int = Field(0, ge=0, description="logical CPUs of the local node; 0: as many as the machine has")
    object_store_mib: int = Field(512, ge=128, description="size of the local object store, MiB")
    dashboard_port: int = Field(0, ge=0, description="port of dashboard and jobs API; 0: a free one")
    record_s: float = Field(5.0, gt=0, description="nodes and who holds them are written down so often, s")


class JobsSettings(_Part):
    """How jobs are submitted."""

    team: str = Field("", description="the team that jobs are counted for; empty: none")
    packages: Literal["auto", "none", "pip"] = Field(
        "auto",
        description="how a job's pinned packages are installed; auto: not where the environment is the same, "
        "else pip",
    )
    file_mib: int = Field(10, ge=1, description="larger files of the working folder are left out, MiB")
    folder_mib: int = Field(100, ge=1, le=500, description="most of a working folder that is sent, MiB")


class CostSettings(_Part):
    """How costs are watched."""

    interval_s: float = Field(30.0, gt=0, description="the steward of costs looks so often, s")
    grace_s: float = Field(
        120.0, ge=0, description="what a spent budget asks to stop has so long to write its checkpoint, s"
    )


class RegistrySettings(_Part):
    """Who vouches for artifacts."""

    signing_key: str = Field("", description="PEM file of the key that signs new artifacts; empty: none")
    trusted_keys: str = Field(
        "",
        description="PEM files of public keys, with commas between: an artifact is loaded only if one of "
        "them has signed it; empty: any artifact of the registry",
    )

    @field_validator("signing_key", "trusted_keys")
    @classmethod
    def _found_from_anywhere(cls, files: str) -> str:
        """Replicas have other working folders."""
        given = [file.strip() for file in files.split(",") if file.strip()]
        return ",".join(str(_absolute(file, Path.cwd())) for file in given)


class ServeSettings(_Part):
    """Where endpoints answer."""

    host: str = Field("127.0.0.1", description="the address that endpoints listen on")
    port: int = Field(8000, ge=0, description="the port that endpoints listen on; 0: a free one")
    front_port: int = Field(
        0, ge=0, description="the port that replicas listen on themselves, without a proxy; 0: none"
    )
    grpc_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="the port of Ray Serve's gRPC door, on every address of the machine; 0: none",
    )
    standbys: int = Field(
        1, ge=0, description="processes that stand by for new replicas, with no model loaded; with front_port"
    )
    log: Literal["local", "database", "replicated"] = Field(
        "local",
        description="where predictions wait for the lakehouse: files of the machine, the `database`, or "
        "files of two machines (`replicated`; of Kafka's brokers, where kafka.bootstrap names them)",
    )
    log_topic: str = Field("rayplat-predictions", description="the topic of the class `replicated` on Kafka")
    log_copies: int = Field(
        2, ge=1, description="so many brokers must have a prediction before it is answered, on Kafka"
    )
    log_sync: Literal["disk", "process"] = Field(
        "disk", description="what an answered prediction survives in files: a power cut, or a killed process"
    )
    auth: Literal["none", "token"] = Field(
        "none", description="who may ask: anybody who reaches the port, or who has a token"
    )
    jwt_keys: str = Field("", description="file or URL of an identity provider's key set; empty: none")
    jwt_issuer: str = Field("", description="the issuer that its tokens must name")
    jwt_audience: str = Field("", description="the audience that its tokens must name")


class LogSettings(_Part):
    """What is logged."""

    level: str = Field("WARNING", description="DEBUG, INFO, WARNING or ERROR")
    format: str = Field("auto", description="text, json, or auto: text in a terminal, else json")


class Settings(_Part):
    """All settings of one platform. Relative paths are made absolute against the working folder."""

    home: Path = Field(Path(".rayplat"), description="folder of the embedded platform")
    warehouse: str = Field("", description="file://, s3:// or gs:// of tables and artifacts")
    database: str = Field("", description="sqlite:/// or postgresql:// of catalog, registry and audit")
    online: str = Field("", description="lmdb:///, redis:// or rediss:// of the online store")
    user: str = Field("", description="who acts; empty: the user of the operating system")
    catalog: CatalogSettings = CatalogSettings()
    s3: S3Settings = S3Settings()
    kafka: KafkaSettings = KafkaSettings()
    kinesis: KinesisSettings = KinesisSettings()
    files: FilesSettings = FilesSettings()
    schema_registry: SchemaRegistrySettings = SchemaRegistrySettings()
    databases: dict[str, str] = Field({}, description="SQLAlchemy addresses of source databases, by name")
    ingest: IngestSettings = IngestSettings()
    ray: RaySettings = RaySettings()
    jobs: JobsSettings = JobsSettings()
    cost: CostSettings = CostSettings()
    registry: RegistrySettings = RegistrySettings()
    serve: ServeSettings = ServeSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="before")
    @classmethod
    def _fill_places(cls, data: Any) -> Any:
        values = dict(data)
        home = values.get("home") or ".rayplat"
        if not isinstance(home, str | Path):
            return values
        folder = Path.cwd()
        values["home"] = home = _absolute(str(home), folder)
        places = {
            "warehouse": f"file://{home}/warehouse",
            "database": f"sqlite:///{home}/rayplat.db",
            "online": f"lmdb:///{home}/online",
        }
        for name, default in places.items():
            given = values.get(name) or default
            values[name] = absolute_address(given, folder) if isinstance(given, str) else given
        values["user"] = values.get("user") or _operating_system_user()
        return values

    @property
    def run_dir(self) -> Path:
        """Where the running processes of this platform are written down (pids, ports, token)."""
        return self.home / "run"

    def with_home(self, home: Path) -> Self:
        """The default settings with another home; for tests and short-lived platforms."""
        return type(self)(home=home)
