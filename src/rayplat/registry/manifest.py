"""The manifest: what an artifact is made of, from what, and by which code.

Knows the fields and their JSON; it does not know how the files beside it are read (`artifact`).
"""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from rayplat.registry.profile import FeatureProfile

FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FilePin(_Part):
    """A file of the artifact: its SHA-256 (hex) and its size in bytes."""

    sha256: str
    size: int


class FeaturePin(_Part):
    """A feature view as it was at training: the digest of its definition and its feature names."""

    view: str
    digest: str
    names: tuple[str, ...]


class TrainingPin(_Part):
    """The training set: its table and snapshot, the digest of its content, the source snapshots."""

    table: str
    snapshot_id: int
    digest: str
    sources: dict[str, int]
    rows_train: int = 0
    rows_test: int = 0


class CodePin(_Part):
    """The code: the commit of the project's repository, and the digest of the project's own files.

    `git_commit` is `unknown` outside a repository; `dirty` says that files differed from the commit.
    """

    git_commit: str
    dirty: bool
    project: str
    project_sha256: str


class Manifest(_Part):
    """Everything that is to be known of an artifact.

    Attributes:
        run_key: the digest of what determines the result.
        files: the other files of the artifact, by name.
        inputs: the signature: names of the inputs in order; a row is that many float32, NaN = missing.
        output: what the network returns for a row.
        metrics: of the model on the test rows; `baselines` holds the same of each baseline.
        profile: by input, how its training values are spread.
    """

    model: str
    run_key: str
    files: dict[str, FilePin] = Field(default_factory=dict)
    features: tuple[FeaturePin, ...]
    inputs: tuple[str, ...]
    output: str = "logit float32"
    training: TrainingPin
    code: CodePin
    environment: dict[str, str]
    metrics: dict[str, float]
    baselines: dict[str, dict[str, float]]
    created_at: datetime
    profile: dict[str, FeatureProfile]
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """The manifest as JSON, one field a line, in the order of the fields."""
        return self.model_dump_json(indent=1).encode() + b"\n"
