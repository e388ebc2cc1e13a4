"""A launcher file before Ray's own eyes: its schema, its defaults, its validation.

Knows what every launcher file must pass; it does not know a cloud.
"""

import copy
from typing import Any

from rayplat.cluster.check.finding import Finding, failed, last_words, passed, silent
from rayplat.cluster.check.readback import compare, read_launcher
from rayplat.cluster.spec import ClusterSpec

_NEEDED = ("CPU", "memory")


def prepared(document: dict[str, Any]) -> dict[str, Any]:
    """The file with Ray's defaults, validated by Ray and against Ray's JSON schema.

    Raises:
        Exception: whatever Ray or the schema has against it.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    config: dict[str, Any] = prepare_config(copy.deepcopy(document))
    validate_config(config)
    return config


def check_launcher(target: str, spec: ClusterSpec, document: dict[str, Any]) -> list[Finding]:
    """Ray's schema and validation, the groups as they came through, and resources of every node type."""
    with silent() as said:
        try:
            config = prepared(document)
        except Exception as error:  # Ray raises its own, jsonschema's and click's errors
            mend = (
                f"run `rayplat cluster render {target}`; if it stays, the cluster file asks what Ray refuses"
            )
            return [failed(target, "schema", last_words(said, error), mend)]
    found = [passed(target, "schema", f"{len(config['available_node_types'])} node types accepted by Ray")]
    found += compare(target, spec, read_launcher(document))
    return [*found, *_resources(target, document)]


def _resources(target: str, document: dict[str, Any]) -> list[Finding]:
    empty = [
        name
        for name, kind in document["available_node_types"].items()
        if any(not kind["resources"].get(resource) for resource in _NEEDED)
    ]
    if empty:
        return [
            failed(
                target,
                "resources",
                f"{', '.join(empty)}: no CPU or no memory",
                f"run `rayplat cluster render {target}`",
            )
        ]
    return [passed(target, "resources", "CPU and memory on every node type")]
