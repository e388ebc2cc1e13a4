"""EC2 nodes under the groups' limits.

Knows nothing but which two classes meet; Ray finds the class by its path.
"""

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

from rayplat.cluster.caps.nodes import Capped


class CappedAws(Capped, AWSNodeProvider):
    """Ray's provider for AWS, that never exceeds a group's max."""
