"""Node types, limits, spot mix, labels, resources and timeouts survive the way to every target."""

from typing import Any

import yaml
from hypothesis import given, settings

from rayplat.cluster.check.kuberay import schema_faults
from rayplat.cluster.check.launcher import prepared
from rayplat.cluster.check.readback import read_kuberay, read_launcher, shape_of
from rayplat.cluster.render.targets import TARGETS
from rayplat.cluster.spec import ClusterSpec, parse_spec
from tests.cluster.render.specs import spec_of, specs

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _documents(target: str, spec: ClusterSpec) -> list[dict[str, Any]]:
    return list(yaml.load_all(TARGETS[target].make(spec), Loader=_LOADER))


@given(spec=specs())
@settings(max_examples=25, deadline=None)
def test_every_group_survives_every_target(spec: ClusterSpec) -> None:
    wanted = {name: shape_of(spec, name, group) for name, group in spec.groups.items()}
    for target in ("aws", "gcp", "local"):
        (document,) = _documents(target, spec)
        assert read_launcher(document) == wanted, target
        assert document["max_workers"] == sum(group.max for group in spec.workers.values())
        if target != "local":
            prepared(document)
    cluster, job, service, config = _documents("kuberay", spec)
    for body in (cluster["spec"], job["spec"]["rayClusterSpec"], service["spec"]["rayClusterConfig"]):
        assert read_kuberay(body) == wanted
    assert parse_spec(config["data"]["platform.yaml"]) == spec
    assert schema_faults(cluster) == schema_faults(job) == schema_faults(service) == []


def test_a_group_that_a_target_leaves_out_is_in_the_others() -> None:
    spec = spec_of({"w": {"kind": "cpu", "gcp": {"skip": True}}})
    named = {target: set(read_launcher(_documents(target, spec)[0])) for target in ("aws", "gcp", "local")}
    assert named == {"aws": {"head", "w"}, "gcp": {"head"}, "local": {"head", "w"}}


def test_zones_reach_their_nodes() -> None:
    spec = spec_of(
        {"w": {"kind": "cpu", "zones": ["b"], "gcp": {"skip": True}}},
        kubernetes={"zones": {"b": "zone-b"}, "spot_selector": {}, "accelerators": {}},
        aws={
            "region": "eu-central-1",
            "image_id": "ami-01234567",
            "security_groups": ["sg-01234567"],
            "subnets": {"a": "subnet-a", "b": "subnet-b"},
        },
    )
    (aws,) = _documents("aws", spec)
    assert aws["provider"]["availability_zone"] == "eu-central-1a,eu-central-1b"
    assert aws["available_node_types"]["w"]["node_config"]["SubnetIds"] == ["subnet-b"]
    assert aws["available_node_types"]["head"]["node_config"]["SubnetIds"] == ["subnet-a"]
    (worker,) = _documents("kuberay", spec)[0]["spec"]["workerGroupSpecs"]
    affinity = worker["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-b"]}
    ]
