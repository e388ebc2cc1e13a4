"""Compute Engine nodes under the groups' limits.

Knows nothing but which two classes meet; Ray finds the class by its path.
"""

from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider

from rayplat.cluster.caps.nodes import Capped


class CappedGcp(Capped, GCPNodeProvider):
    """Ray's provider for GCP, that never exceeds a group's max."""
