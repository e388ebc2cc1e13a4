"""cluster/aws.yaml against an EC2 that is simulated in this process: a node of each type comes and goes.

Knows what a node must be once it runs; it never reaches AWS: every call of boto3 ends in moto.
"""

import copy
import importlib.util
from typing import Any

from rayplat.cluster.check.finding import Finding, failed, last_words, passed, silent, skipped
from rayplat.cluster.check.launcher import prepared

_KEY = "rayplat-check"


def check_aws(document: dict[str, Any]) -> list[Finding]:
    """Bootstrap the cluster, fill in resources, create a node of each type, look at it, end it."""
    missing = [name for name in ("moto", "boto3") if importlib.util.find_spec(name) is None]
    if missing:
        what = f"{' and '.join(missing)} not installed: no simulated EC2"
        return [skipped("aws", "launch", what, "pip install 'moto[ec2,iam]' boto3")]
    from moto import mock_aws

    with silent() as said, mock_aws():
        try:
            config = _on_moto(document)
            offered = _offered(config)
            wrong = _mismatches(config, offered)
            return [*(wrong or [_filled(offered)]), *_launch(config)]
        except (Exception, SystemExit) as error:  # the launcher gives up by click's and its own errors
            return [
                failed(
                    "aws",
                    "launch",
                    last_words(said, error),
                    "correct the aws part of the cluster file, or the group's aws.instance_type",
                )
            ]


def _on_moto(document: dict[str, Any]) -> dict[str, Any]:
    """The file with what names an account replaced by what the simulated account has."""
    import boto3  # type: ignore[import-untyped]

    config = copy.deepcopy(document)
    region = config["provider"]["region"]
    ec2, iam = boto3.client("ec2", region), boto3.client("iam", region)
    kinds = [kind["node_config"] for kind in config["available_node_types"].values()]
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    groups = {
        name: ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        for name in sorted({group for kind in kinds for group in kind["SecurityGroupIds"]})
    }
    device = [{"DeviceName": kinds[0]["BlockDeviceMappings"][0]["DeviceName"], "Ebs": {"VolumeSize": 8}}]
    image = ec2.register_image(Name=_KEY, RootDeviceName=device[0]["DeviceName"], BlockDeviceMappings=device)
    ec2.create_key_pair(KeyName=_KEY)
    for profile in sorted({kind["IamInstanceProfile"]["Name"] for kind in kinds}):
        iam.create_instance_profile(InstanceProfileName=profile)
    zones = ec2.describe_subnets()["Subnets"]
    for kind in kinds:
        kind["SecurityGroupIds"] = [groups[group] for group in kind["SecurityGroupIds"]]
        kind["ImageId"], kind["KeyName"] = image["ImageId"], _KEY
        kind["BlockDeviceMappings"][0]["Ebs"].pop("KmsKeyId", None)
        if "SubnetIds" in kind:
            wanted = config["provider"]["availability_zone"].split(",")[: len(kind["SubnetIds"])]
            kind["SubnetIds"] = [s["SubnetId"] for s in zones if s["AvailabilityZone"] in wanted]
    # With a key of its own the launcher writes none into this user's home.
    config["auth"]["ssh_private_key"] = "/nonexistent/key"
    return config


def _offered(config: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What EC2 says each node type's machine has, in Ray's words."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    bare = copy.deepcopy(config)
    for kind in bare["available_node_types"].values():
        kind["resources"] = {}
    filled = AWSNodeProvider.fillout_available_node_types_resources(bare)
    return {name: kind["resources"] for name, kind in filled["available_node_types"].items()}


def _mismatches(config: dict[str, Any], offered: dict[str, dict[str, float]]) -> list[Finding]:
    """Node types that promise to Ray what EC2's machine does not have."""
    found = []
    for name, kind in config["available_node_types"].items():
        for resource, amount in kind["resources"].items():
            there = offered[name].get(resource)
            if resource == "memory" and name == config["head_node_type"]:
                continue  # Ray does not ask EC2 for the memory of the head
            if there is None or there < amount:
                machine = kind["node_config"]["InstanceType"]
                what = f"{name} promises {resource}: {amount:g}, and {machine} has {there or 0:g}"
                found.append(failed("aws", "machines", what, "name another aws.instance_type"))
    return found


def _filled(offered: dict[str, dict[str, float]]) -> Finding:
    return passed("aws", "machines", f"EC2 has what each of {len(offered)} node types promises")


def _launch(config: dict[str, Any]) -> list[Finding]:
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    ready = bootstrap_aws(prepared(config))  # type: ignore[no-untyped-call]
    provider: Any = AWSNodeProvider(  # type: ignore[no-untyped-call]
        ready["provider"], ready["cluster_name"]
    )
    faults: list[Finding] = []
    for name, kind in ready["available_node_types"].items():
        role = "head" if name == ready["head_node_type"] else "worker"
        tags = {"ray-node-type": role, "ray-user-node-type": name, "ray-node-name": f"check-{name}"}
        (node,) = provider.create_node(kind["node_config"], tags, 1)
        faults += _look(ready["provider"]["region"], name, node, kind["node_config"])
    started = provider.non_terminated_nodes({})
    provider.terminate_nodes(started)
    left = provider.non_terminated_nodes({})
    if left or len(started) != len(ready["available_node_types"]):
        what = f"{len(started)} nodes started, {len(left)} left after they were ended"
        faults.append(failed("aws", "launch", what, "run the check with --verbose and report it"))
    return faults or [
        passed("aws", "launch", f"{len(started)} nodes bootstrapped, started, looked at, ended")
    ]


def _look(region: str, name: str, node: str, wanted: dict[str, Any]) -> list[Finding]:
    """Whether a node that runs is what the file asked for."""
    import boto3

    ec2 = boto3.client("ec2", region)
    instance = ec2.describe_instances(InstanceIds=[node])["Reservations"][0]["Instances"][0]
    volumes = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [node]}])["Volumes"]
    market = "spot" if "InstanceMarketOptions" in wanted else "on-demand"
    seen = {
        "machine": (instance["InstanceType"], wanted["InstanceType"]),
        "market": (instance.get("InstanceLifecycle", "on-demand"), market),
        "security groups": (
            sorted(group["GroupId"] for group in instance["SecurityGroups"]),
            sorted(wanted["SecurityGroupIds"]),
        ),
        "metadata tokens": (instance["MetadataOptions"]["HttpTokens"], "required"),
        "role": (
            instance["IamInstanceProfile"]["Arn"].rpartition("/")[2],
            wanted["IamInstanceProfile"]["Name"],
        ),
        "encrypted disks": ([volume["Encrypted"] for volume in volumes], [True]),
        "disk": ([v["Size"] for v in volumes], [wanted["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"]]),
    }
    return [
        failed(
            "aws", "launch", f"{name}: {what} is {there!r}, not {here!r}", "run `rayplat cluster render aws`"
        )
        for what, (there, here) in seen.items()
        if there != here
    ]
