"""The policy documents: least privilege, and only from the networks that are named."""

import json
from typing import Any

import pytest

from rayplat.cluster.render.policies.document import PolicyDocument
from rayplat.cluster.render.policies.targets import policies
from rayplat.cluster.spec import ClusterSpec
from rayplat.core.errors import NotFoundError, UserError
from tests.cluster.render.specs import SECTIONS, spec_of

SPEC = spec_of(
    {"w": {"kind": "cpu", "cpus": 8}},
    platform={"warehouse": "s3://bucket/lake"},
    network={"ssh_from": ["203.0.113.0/24"], "dashboard_from": ["2001:db8::/32"]},
)


def _named(target: str, spec: ClusterSpec = SPEC) -> dict[str, PolicyDocument]:
    return {document.name: document for document in policies(spec, target)}


def _statements(document: PolicyDocument) -> list[dict[str, Any]]:
    return list(document.body["Statement"])


def test_no_aws_role_has_a_wildcard_action_or_changes_what_it_does_not_own() -> None:
    looks = ("ec2:Describe", "ssmmessages:", "ssm:UpdateInstanceInformation")
    for name in ("rayplat-head", "rayplat-worker", "launcher"):
        for statement in _statements(_named("aws")[name]):
            assert not any("*" in action for action in statement["Action"])
            if statement["Resource"] == ["*"]:
                assert all(action.startswith(looks) for action in statement["Action"]), statement


def test_the_head_starts_the_specs_machines_alone_and_ends_its_own_nodes_alone() -> None:
    by_sid = {s["Sid"]: s for s in _statements(_named("aws")["rayplat-head"])}
    start = by_sid["StartNodes"]["Condition"]["StringEquals"]
    assert start["ec2:InstanceType"] == ["c6i.2xlarge", "m6i.xlarge"]
    assert start["aws:RequestTag/ray-cluster-name"] == "rayplat"
    ends = by_sid["KeepAndEndOwnNodes"]
    assert "ec2:TerminateInstances" in ends["Action"]
    assert ends["Condition"]["StringEquals"] == {"aws:ResourceTag/ray-cluster-name": "rayplat"}
    assert by_sid["GiveRoles"]["Resource"] == ["arn:aws:iam::*:role/rayplat-worker"]


def test_workers_have_the_warehouse_and_no_machines() -> None:
    worker = json.dumps(_named("aws")["rayplat-worker"].body)
    assert "arn:aws:s3:::bucket/lake/*" in worker
    assert "ec2:" not in worker
    assert "iam:" not in worker


def test_firewalls_admit_the_named_networks_and_nobody_else() -> None:
    rules = _named("aws")["security-group"].body["IpPermissions"]
    assert [rule.get("FromPort") for rule in rules] == [None, 22, 8265]
    assert rules[1]["IpRanges"] == [{"CidrIp": "203.0.113.0/24"}]
    assert rules[2]["Ipv6Ranges"] == [{"CidrIpv6": "2001:db8::/32"}]
    closed = spec_of({})
    assert len(_named("aws", closed)["security-group"].body["IpPermissions"]) == 1
    assert _named("gcp", closed)["firewall ssh"].body["sourceRanges"] == ["35.235.240.0/20"]
    assert _named("gcp")["firewall ssh"].body["sourceRanges"] == ["203.0.113.0/24"]
    everything = json.dumps([d.body for t in ("aws", "gcp", "kubernetes") for d in policies(closed, t)])
    assert "0.0.0.0/0" not in everything


def test_gcp_roles_hold_permissions_by_name() -> None:
    spec = spec_of({}, platform={"warehouse": "gs://bucket/lake"})
    named = _named("gcp", spec)
    permissions = named["rayplat-head"].body["includedPermissions"]
    assert "compute.instances.create" in permissions
    assert not [p for p in permissions if "*" in p or p.startswith(("iam.", "resourcemanager."))]
    assert "gs://bucket" in named["warehouse"].commands[1]


def test_kubernetes_gets_a_role_in_its_namespace_and_a_secret_from_the_token_file() -> None:
    named = _named("kubernetes")
    verbs = {verb for rule in named["role"].body["rules"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch", "patch"}
    assert any("--from-file=auth_token=.rayplat/run/auth_token" in c for c in named["namespace"].commands)


def test_unknown_and_absent_targets_are_told() -> None:
    with pytest.raises(NotFoundError, match="azure"):
        policies(SPEC, "azure")
    with pytest.raises(UserError, match="no part 'gcp'"):
        policies(ClusterSpec.model_validate({"aws": SECTIONS["aws"]}), "gcp")
