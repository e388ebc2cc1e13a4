"""The autoscaler's configuration on a bought head, with the provider that holds the groups' limits.

Run: python -m rayplat.cluster.caps.config FROM TO (the head's service does)

Knows what is changed in the file that Ray's launcher has put on the head; it does not know how a limit
is held (`nodes`).
"""

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from rayplat.core.errors import UserError

PROVIDERS = {"aws": "rayplat.cluster.caps.aws.CappedAws", "gcp": "rayplat.cluster.caps.gcp.CappedGcp"}
GROUP_OF = "rayplat_groups"
LIMITS = "rayplat_limits"
_GROUP = "rayplat.group"
_OWNER_ONLY = 0o600


def capped(config: dict[str, Any]) -> dict[str, Any]:
    """A launcher file's value with the capped provider in the place of the cloud's own.

    Raises:
        UserError: it was not rendered by rayplat.
    """
    provider = config["provider"]
    groups = config.get("metadata", {}).get("groups")
    if provider["type"] not in PROVIDERS or not groups:
        raise UserError(
            f"the launcher file of provider {provider['type']!r} names no groups",
            "write it with `rayplat cluster render`",
        )
    kinds = config["available_node_types"]
    changed = {
        **provider,
        "type": "external",
        "module": PROVIDERS[provider["type"]],
        GROUP_OF: {name: kind["labels"][_GROUP] for name, kind in kinds.items()},
        LIMITS: {name: group["max"] for name, group in groups.items()},
    }
    return {**config, "provider": changed}


def main(source: str, target: str) -> None:
    """Write the changed file, for its owner only; it appears whole or not at all."""
    text = yaml.safe_dump(capped(yaml.safe_load(Path(source).read_text())))
    draft = Path(target).with_suffix(".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(target)


if __name__ == "__main__":
    main(*sys.argv[1:3])
