"""The cluster file: cluster/platform.yaml, the only file a platform engineer edits.

Knows its shape and its faults; it does not know how a target (local, AWS, GCP, KubeRay) is made
from it.
"""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rayplat.core.errors import UserError


class LocalSpec(BaseModel):
    """The cluster that `rayplat up` starts on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: int = Field(0, ge=0, description="logical CPUs; 0: as many as the machine has")
    gpus: int = Field(0, ge=0, description="GPUs that are offered to tasks and replicas")


class ClusterSpec(BaseModel):
    """The whole cluster file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        "rayplat",
        pattern=r"^[a-z][a-z0-9-]{0,39}$",
        description="the cluster's name: lower case, digits, hyphens",
    )
    local: LocalSpec = LocalSpec()


def load_spec(path: Path) -> ClusterSpec:
    """Read a cluster file; a file that is not there means the defaults.

    Raises:
        UserError: the file is no YAML, or says what it may not; every fault is named.
    """
    if not path.exists():
        return ClusterSpec()
    try:
        return ClusterSpec.model_validate(yaml.safe_load(path.read_text()) or {})
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}", "correct the line named above") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(
            f"{path}: {faults}", "see docs/reference/settings.md for what may stand there"
        ) from error
