"""A limit over several node types, put before any node provider of Ray.

Knows how many nodes of a group there are, started a moment ago or seen by the cloud; it does not know
the cloud. Ray's own limits are one for each node type and one for all: with on-demand nodes that stand
in for spot, a group could be over its max.
"""

import threading
import time
from typing import Any

from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

from rayplat.cluster.caps.config import GROUP_OF, LIMITS

_UNSEEN_S = 120.0
"""A cloud's listing may lag: what was started is counted for so long even where it is not listed."""


class Capped:
    """Goes before a node provider among a class's bases; starts no more nodes than the group may have."""

    provider_config: Any

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> Any:
        """Start as many of the nodes as the group has room for.

        Raises:
            NodeLaunchException: it has room for none.
        """
        with self.__dict__.setdefault("_starting", threading.Lock()):
            group = self.provider_config[GROUP_OF].get(tags[TAG_RAY_USER_NODE_TYPE])
            limit = self.provider_config[LIMITS].get(group)
            # The head's group has a max of its own node, and is not started from here.
            room = count if limit is None else min(count, limit - len(self._there(group)))
            if room <= 0:
                raise NodeLaunchException("GroupAtMax", f"group {group} has its {limit} nodes", None)
            made = super().create_node_with_resources_and_labels(  # type: ignore[misc]
                node_config, tags, room, resources, labels
            )
            now = time.monotonic()
            self._recent().update(dict.fromkeys(made or {}, (group, now)))
            return made

    def terminate_nodes(self, node_ids: list[str]) -> Any:
        """End nodes; they are counted no more once the cloud does not list them."""
        for node in node_ids:
            self._recent().pop(node, None)
        return super().terminate_nodes(node_ids)  # type: ignore[misc]

    def _recent(self) -> dict[str, tuple[str, float]]:
        found: dict[str, tuple[str, float]] = self.__dict__.setdefault("_recently_started", {})
        return found

    def _there(self, group: str) -> set[str]:
        listed: set[str] = set()
        for kind, of in self.provider_config[GROUP_OF].items():
            if of == group:
                listed |= set(self.non_terminated_nodes({TAG_RAY_USER_NODE_TYPE: kind}))  # type: ignore[attr-defined]
        now = time.monotonic()
        return listed | {n for n, (of, at) in self._recent().items() if of == group and now - at < _UNSEEN_S}
