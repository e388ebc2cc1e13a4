"""cluster/aws.yaml: the launcher file for AWS.

Knows EC2's words for a node and what makes one safe; it does not talk to AWS.
"""

from typing import Any

from rayplat.cluster.render.commands import launcher_parts
from rayplat.cluster.render.launcher import available_node_types, limits, notes, without_skipped
from rayplat.cluster.render.text import rendered
from rayplat.cluster.spec import ClusterSpec, NodeGroup, NodeType
from rayplat.cluster.spec.catalogue import choose
from rayplat.cluster.spec.sections import AwsSection

# A tunnel by the node's id: nothing listens to the world, and the session is in CloudTrail.
_TUNNEL = "aws ssm start-session --target %h --document-name AWS-StartSSHSession --parameters portNumber=%p"


def render_aws(spec: ClusterSpec) -> str:
    """The text of cluster/aws.yaml; the spec must have its aws part."""
    spec = without_skipped(spec, "aws")
    return rendered("aws", [aws_document(spec)], notes(spec))


def aws_document(spec: ClusterSpec) -> dict[str, Any]:
    """The launcher file as a value."""
    assert spec.aws is not None
    aws = spec.aws
    tunnel = not spec.network.ssh_from
    return {
        **limits(spec),
        "provider": {
            "type": "aws",
            "region": aws.region,
            "availability_zone": ",".join(f"{aws.region}{z}" for z in _zones(spec, aws)),
            "cache_stopped_nodes": False,
            "use_internal_ips": not aws.public_ips,
        },
        "auth": {
            "ssh_user": aws.ssh_user,
            **({"ssh_proxy_command": _TUNNEL, "ssh_proxy_use_node_id": True} if tunnel else {}),
        },
        "available_node_types": available_node_types(spec, lambda kind: _node_config(spec, aws, kind)),
        "head_node_type": spec.head[0],
        **launcher_parts(spec, "boto3"),
    }


def _zones(spec: ClusterSpec, aws: AwsSection) -> list[str]:
    """The letters of every zone that a group uses, the section's own first."""
    named = [letter for group in spec.groups.values() for letter in group.zones]
    unnamed = any(not group.zones for group in spec.groups.values())
    return list(dict.fromkeys([*(aws.zones if unnamed else []), *named]))


def _node_config(spec: ClusterSpec, aws: AwsSection, kind: NodeType) -> dict[str, Any]:
    group = spec.groups[kind.group]
    tags = [
        {"Key": "rayplat-cluster", "Value": spec.name},
        {"Key": "rayplat-group", "Value": kind.group},
    ]
    config: dict[str, Any] = {
        "InstanceType": choose(group, "aws").type,
        "ImageId": aws.image_id,
        "IamInstanceProfile": {"Name": aws.head_profile if group.kind == "head" else aws.worker_profile},
        "SecurityGroupIds": list(aws.security_groups),
        **_subnets(aws, group),
        # Version 2 of the metadata service, and no hop further than the node itself.
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
        },
        "BlockDeviceMappings": [_disk(aws, group)],
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": tags},
            {"ResourceType": "volume", "Tags": tags},
        ],
    }
    if kind.market == "spot":
        config["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        }
    return config


def _subnets(aws: AwsSection, group: NodeGroup) -> dict[str, list[str]]:
    letters = group.zones or aws.zones
    found = [aws.subnets[letter] for letter in letters if letter in aws.subnets]
    return {"SubnetIds": found} if found else {}


def _disk(aws: AwsSection, group: NodeGroup) -> dict[str, Any]:
    disk: dict[str, Any] = {
        "VolumeSize": group.disk_gib,
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    if aws.kms_key:
        disk["KmsKeyId"] = aws.kms_key
    return {"DeviceName": aws.device, "Ebs": disk}
