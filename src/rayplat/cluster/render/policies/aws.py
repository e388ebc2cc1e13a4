"""What AWS must allow: the roles of the head, of the workers and of who launches, and the firewall.

Knows IAM's words and which calls the launcher makes; it grants nothing.
"""

from typing import Any
from urllib.parse import urlsplit

from rayplat.cluster.render.aws import aws_document
from rayplat.cluster.render.commands import DASHBOARD_PORT
from rayplat.cluster.render.launcher import without_skipped
from rayplat.cluster.render.policies.document import PolicyDocument
from rayplat.cluster.spec import ClusterSpec
from rayplat.cluster.spec.sections import AwsSection

Statement = dict[str, Any]
_TAG = "ray-cluster-name"
"""The tag by which Ray knows a cluster's nodes."""


def aws_policies(spec: ClusterSpec) -> list[PolicyDocument]:
    """The documents of an AWS cluster; the spec must have its aws part."""
    assert spec.aws is not None
    aws = spec.aws
    spec = without_skipped(spec, "aws")
    head = [*_nodes(spec, aws), _pass([aws.worker_profile]), *_data(spec), *_key(aws), _tunnel_end()]
    launcher = [
        *_nodes(spec, aws),
        _pass([aws.head_profile, aws.worker_profile]),
        *_bootstrap(spec, aws),
    ]
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    return [
        _role(aws.head_profile, "The head starts and ends nodes of this cluster, and no others.", head),
        _role(aws.worker_profile, "A worker reads and writes the warehouse.", [*_data(spec), _tunnel_end()]),
        PolicyDocument("trust", "EC2 alone may take the two roles.", trust, _role_commands(aws)),
        PolicyDocument(
            "launcher",
            "A person or a pipeline that runs `ray up`.",
            _policy(launcher),
            (_create("launcher"),),
        ),
        _security_group(spec, aws),
    ]


def _policy(statements: list[Statement]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}


def _role(name: str, purpose: str, statements: list[Statement]) -> PolicyDocument:
    put = f"aws iam put-role-policy --role-name {name} --policy-name {name} --policy-document file://FILE"
    return PolicyDocument(name, purpose, _policy(statements), (put,))


def _create(name: str) -> str:
    return f"aws iam create-policy --policy-name rayplat-{name} --policy-document file://FILE"


def _role_commands(aws: AwsSection) -> tuple[str, ...]:
    return tuple(
        command
        for name in (aws.head_profile, aws.worker_profile)
        for command in (
            f"aws iam create-role --role-name {name} --assume-role-policy-document file://FILE",
            f"aws iam create-instance-profile --instance-profile-name {name}",
            f"aws iam add-role-to-instance-profile --instance-profile-name {name} --role-name {name}",
        )
    )


def _allow(sid: str, actions: list[str], resources: list[str], **conditions: Any) -> Statement:
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
    return {**statement, "Condition": conditions} if conditions else statement


def _arn(aws: AwsSection, what: str, *, account: str = "*") -> str:
    return f"arn:aws:ec2:{aws.region}:{account}:{what}"


def _nodes(spec: ClusterSpec, aws: AwsSection) -> list[Statement]:
    """Start nodes of the machines that the spec names, tagged as this cluster's; end those alone."""
    kinds = aws_document(spec)["available_node_types"].values()
    machines = sorted({kind["node_config"]["InstanceType"] for kind in kinds})
    tagged = {f"aws:RequestTag/{_TAG}": spec.name}
    owned = {f"aws:ResourceTag/{_TAG}": spec.name}
    parts = ["subnet/*", "network-interface/*", "key-pair/*", "spot-instances-request/*"]
    image = "*" if aws.image_id.startswith("resolve:") else aws.image_id
    instance = _arn(aws, "instance/*")
    return [
        _allow(
            "Look",
            ["ec2:DescribeInstances", "ec2:DescribeInstanceTypes"],
            ["*"],
            StringEquals={"aws:RequestedRegion": aws.region},
        ),
        _allow(
            "StartNodes",
            ["ec2:RunInstances"],
            [instance],
            StringEquals={**tagged, "ec2:InstanceType": machines, "ec2:MetadataHttpTokens": "required"},
        ),
        _allow(
            "StartOnEncryptedDisks",
            ["ec2:RunInstances"],
            [_arn(aws, "volume/*")],
            Bool={"ec2:Encrypted": "true"},
        ),
        _allow(
            "StartWith",
            ["ec2:RunInstances"],
            [
                *[_arn(aws, part) for part in parts],
                *[_arn(aws, f"security-group/{group}") for group in aws.security_groups],
                f"arn:aws:ec2:{aws.region}::image/{image}",
            ],
        ),
        _allow(
            "TagAtStart",
            ["ec2:CreateTags"],
            [instance, _arn(aws, "volume/*")],
            StringEquals={"ec2:CreateAction": "RunInstances"},
        ),
        _allow(
            "KeepAndEndOwnNodes",
            ["ec2:CreateTags", "ec2:DeleteTags", "ec2:TerminateInstances"],
            [instance],
            StringEquals=owned,
        ),
    ]


def _pass(roles: list[str]) -> Statement:
    return _allow(
        "GiveRoles",
        ["iam:PassRole"],
        [f"arn:aws:iam::*:role/{role}" for role in roles],
        StringEquals={"iam:PassedToService": "ec2.amazonaws.com"},
    )


def _data(spec: ClusterSpec) -> list[Statement]:
    place = urlsplit(spec.platform.warehouse or "")
    if place.scheme != "s3":
        return []
    bucket, prefix = f"arn:aws:s3:::{place.netloc}", place.path.strip("/")
    below = f"{prefix}/*" if prefix else "*"
    return [
        _allow("ListWarehouse", ["s3:ListBucket"], [bucket], StringLike={"s3:prefix": [prefix, below]}),
        _allow(
            "UseWarehouse",
            ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            [f"{bucket}/{below}"],
        ),
    ]


def _key(aws: AwsSection) -> list[Statement]:
    if not aws.kms_key:
        return []
    actions = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext"]
    return [
        _allow(
            "UseDiskKey",
            actions,
            [aws.kms_key],
            StringEquals={"kms:ViaService": f"ec2.{aws.region}.amazonaws.com"},
        )
    ]


def _tunnel_end() -> Statement:
    """What a node needs to be reached through Session Manager; it opens no port."""
    channels = ["CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel"]
    actions = ["ssm:UpdateInstanceInformation", *[f"ssmmessages:{name}" for name in channels]]
    return _allow("AnswerTunnel", actions, ["*"])


def _bootstrap(spec: ClusterSpec, aws: AwsSection) -> list[Statement]:
    looks = [
        "DescribeKeyPairs",
        "DescribeSubnets",
        "DescribeSecurityGroups",
        "DescribeVpcs",
        "DescribeImages",
    ]
    return [
        _allow("LookAround", [f"ec2:{look}" for look in looks], ["*"]),
        _allow("MakeLoginKey", ["ec2:CreateKeyPair"], [_arn(aws, "key-pair/ray-autoscaler*")]),
        _allow(
            "OpenTunnel",
            ["ssm:StartSession"],
            [_arn(aws, "instance/*"), f"arn:aws:ssm:{aws.region}::document/AWS-StartSSHSession"],
            StringEqualsIfExists={f"ssm:resourceTag/{_TAG}": spec.name},
        ),
    ]


def _security_group(spec: ClusterSpec, aws: AwsSection) -> PolicyDocument:
    group = aws.security_groups[0]
    rules: list[dict[str, Any]] = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
    for port, networks in ((22, spec.network.ssh_from), (DASHBOARD_PORT, spec.network.dashboard_from)):
        four = [{"CidrIp": cidr} for cidr in networks if ":" not in cidr]
        six = [{"CidrIpv6": cidr} for cidr in networks if ":" in cidr]
        if networks:
            rule: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
            rules.append(
                {**rule, **({"IpRanges": four} if four else {}), **({"Ipv6Ranges": six} if six else {})}
            )
    return PolicyDocument(
        "security-group",
        "The nodes reach each other; from outside come the networks that are named, and nobody else.",
        {"GroupId": group, "IpPermissions": rules},
        (
            f"aws ec2 create-security-group --region {aws.region} --group-name rayplat --description rayplat",
            f"aws ec2 authorize-security-group-ingress --region {aws.region} --cli-input-json file://FILE",
        ),
    )
