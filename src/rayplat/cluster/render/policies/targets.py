"""Which policy documents a target has.

Knows the three targets with accounts; it does not know a document.
"""

from collections.abc import Callable

from rayplat.cluster.render.policies.aws import aws_policies
from rayplat.cluster.render.policies.document import PolicyDocument
from rayplat.cluster.render.policies.gcp import gcp_policies
from rayplat.cluster.render.policies.kubernetes import kubernetes_policies
from rayplat.cluster.spec import ClusterSpec
from rayplat.core.errors import NotFoundError, UserError

_MADE_BY: dict[str, Callable[[ClusterSpec], list[PolicyDocument]]] = {
    "aws": aws_policies,
    "gcp": gcp_policies,
    "kubernetes": kubernetes_policies,
}


def policies(spec: ClusterSpec, target: str) -> list[PolicyDocument]:
    """The policy documents of a target: aws, gcp or kubernetes.

    Raises:
        NotFoundError: there is no such target.
        UserError: the spec has no part for it.
    """
    if target not in _MADE_BY:
        raise NotFoundError(f"there are no policies for {target!r}", f"there is: {', '.join(_MADE_BY)}")
    if getattr(spec, target) is None:
        raise UserError(
            f"the cluster file has no part {target!r}",
            f"add `{target}:` to the cluster file; docs/cluster.md shows one",
        )
    return _MADE_BY[target](spec)
