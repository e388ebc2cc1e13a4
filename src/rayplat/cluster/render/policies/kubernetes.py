"""What Kubernetes must have before the cluster: namespace, service account, role, and the token's Secret.

Knows which calls the autoscaler beside the head makes; it grants nothing.
"""

from typing import Any

from rayplat.cluster.render.policies.document import PolicyDocument
from rayplat.cluster.spec import ClusterSpec


def kubernetes_policies(spec: ClusterSpec) -> list[PolicyDocument]:
    """The documents of a Kubernetes cluster; the spec must have its kubernetes part."""
    assert spec.kubernetes is not None
    namespace, account = spec.kubernetes.namespace, spec.kubernetes.service_account
    apply = ("kubectl apply -f FILE",)
    secret = (
        f"kubectl -n {namespace} create secret generic {spec.kubernetes.token_secret} "
        f"--from-file=auth_token={spec.network.token}"
    )
    # Pods of the strictest standard are all that the rendered ones need.
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    binding = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }
    named = {"name": account, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        PolicyDocument(
            "namespace",
            "Where the cluster lives; pods that could become root are refused.",
            _object("v1", "Namespace", {"name": namespace, "labels": labels}),
            (*apply, secret),
        ),
        PolicyDocument(
            "service account",
            "Who the pods are; a token is given to the head alone.",
            {**_object("v1", "ServiceAccount", named), "automountServiceAccountToken": False},
            apply,
        ),
        PolicyDocument(
            "role",
            "The autoscaler sees pods and changes the size of its cluster.",
            {
                **_object(rbac, "Role", named),
                "rules": [
                    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
                    {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]},
                ],
            },
            apply,
        ),
        PolicyDocument(
            "role binding",
            "The service account has that role.",
            {**_object(rbac, "RoleBinding", named), **binding},
            apply,
        ),
    ]


def _object(version: str, kind: str, metadata: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
