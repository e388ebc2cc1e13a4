"""Groups, machines and markets: resources, the catalogue, and limits that add up."""

import gzip
import json
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.cluster.spec import ClusterSpec, NodeGroup, PlatformSection, Spot, node_types, worker_limit
from rayplat.cluster.spec.catalogue import NoMachineError, choose, machines

HEAD = NodeGroup(kind="head")


def test_resources_are_in_rays_words() -> None:
    group = NodeGroup(kind="gpu", accelerator="L4", gpus=2, cpus=24, memory_gib=96)
    assert group.resources == {
        "CPU": 24,
        "GPU": 2,
        "memory": int(96 * 2**30 * 0.7),
        "accelerator_type:L4": 1,
    }
    assert "GPU" not in HEAD.resources


def test_the_aws_catalogue_is_what_ec2_says() -> None:
    raw = (files("moto.ec2") / "resources" / "instance_types.json.gz").read_bytes()
    said = json.loads(gzip.decompress(raw))
    for machine in machines("aws"):
        there = said[machine.type]
        gpus = there.get("GpuInfo", {}).get("Gpus", [])
        assert machine.cpus == there["VCpuInfo"]["DefaultVCpus"], machine.type
        assert machine.memory_gib == there["MemoryInfo"]["SizeInMiB"] / 1024, machine.type
        assert machine.gpus == sum(g["Count"] for g in gpus), machine.type
        assert machine.accelerator == (gpus[0]["Name"] if gpus else None), machine.type


def test_gcp_types_hold_the_cpus_that_their_names_say() -> None:
    standard = [m for m in machines("gcp") if m.type.split("-")[1] in ("standard", "highmem", "highcpu")]
    assert len(standard) > 50
    assert all(m.cpus == int(m.type.rpartition("-")[2]) for m in standard)
    keys = [(m.type, m.gpus, m.accelerator) for m in machines("gcp")]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("group", "aws", "gcp"),
    [
        (NodeGroup(kind="cpu", cpus=8, memory_gib=32), "m6i.2xlarge", "e2-standard-8"),
        (NodeGroup(kind="cpu", cpus=3, memory_gib=8), "c6i.xlarge", "n2-highmem-4"),
        (NodeGroup(kind="gpu", accelerator="L4", gpus=1, cpus=8), "g6.2xlarge", "g2-standard-8"),
        (NodeGroup(kind="gpu", accelerator="T4", gpus=4, cpus=8), "g4dn.12xlarge", "n1-standard-8"),
        (NodeGroup(kind="gpu", accelerator="H100", gpus=8, cpus=100), "p5.48xlarge", "a3-highgpu-8g"),
    ],
)
def test_the_smallest_machine_that_fits_is_chosen(group: NodeGroup, aws: str, gcp: str) -> None:
    for cloud, wanted in (("aws", aws), ("gcp", gcp)):
        machine = choose(group, cloud)  # type: ignore[arg-type]
        fitting = [
            m
            for m in machines(cloud)  # type: ignore[arg-type]
            if m.cpus >= group.cpus
            and m.memory_gib >= group.memory_gib
            and (m.gpus, m.accelerator) == (group.gpus, group.accelerator)
        ]
        assert machine in fitting
        assert machine.cpus == min(m.cpus for m in fitting)
        if cloud == "aws" or group.gpus:
            assert machine.type == wanted


@pytest.mark.parametrize(
    ("machine", "fits"),
    [
        ("g6.2xlarge", True),
        ("g6.xlarge", False),
        ("g6.4xlarge", False),
        ("g5.2xlarge", False),
        ("m6i.2xlarge", False),
    ],
)
def test_a_named_machine_must_be_what_the_group_says(machine: str, fits: bool) -> None:
    group = NodeGroup.model_validate(
        {"kind": "gpu", "accelerator": "L4", "gpus": 1, "cpus": 8, "aws": {"instance_type": machine}}
    )
    if fits:
        assert choose(group, "aws").type == machine
    else:
        with pytest.raises(NoMachineError) as caught:
            choose(group, "aws")
        assert "g6.2xlarge" in caught.value.mend


@given(
    most=st.integers(0, 50),
    least=st.integers(0, 50),
    share=st.floats(0, 1),
    fallback=st.sampled_from(["on-demand", "none"]),
)
def test_limits_of_the_markets_add_up(most: int, least: int, share: float, fallback: str) -> None:
    least = min(least, most)
    group = NodeGroup.model_validate(
        {"kind": "cpu", "min": least, "max": most, "spot": {"share": share, "fallback": fallback}}
    )
    spec = ClusterSpec(groups={"head": HEAD, "w": group})
    exact = [t for t in node_types(spec, stand_in=False) if t.group == "w"]
    assert sum(t.max for t in exact) == most
    assert sum(t.min for t in exact) == least
    loose = [t for t in node_types(spec) if t.group == "w"]
    on_demand = sum(t.max for t in loose if t.market == "on-demand")
    spot = sum(t.max for t in loose if t.market == "spot")
    assert abs(spot - most * share) <= 0.5
    assert on_demand == (most if fallback == "on-demand" else most - spot)
    assert sum(t.min for t in loose) == least
    assert all(t.min <= t.max for t in [*exact, *loose])
    assert worker_limit(spec) == most


def test_spot_is_started_before_on_demand_and_labels_tell_them_apart() -> None:
    group = NodeGroup(kind="cpu", max=4, spot=Spot(share=0.5), labels={"team": "a"})
    head, spot, on_demand = node_types(ClusterSpec(groups={"head": HEAD, "w": group}))
    assert head.name == "head"
    assert spot.name == "w-spot"
    assert spot.priority > on_demand.priority
    assert spot.labels == {"team": "a", "rayplat.group": "w", "ray.io/market-type": "spot"}
    assert on_demand.labels["ray.io/market-type"] == "on-demand"


def test_settings_become_variables() -> None:
    platform = PlatformSection.model_validate(
        {"kafka": "k:9092", "redis": "rediss://r/0", "settings": {"serve.port": 9, "s3.region": "x"}}
    )
    assert platform.environment == {
        "RAYPLAT_KAFKA__BOOTSTRAP": "k:9092",
        "RAYPLAT_ONLINE": "rediss://r/0",
        "RAYPLAT_S3__REGION": "x",
        "RAYPLAT_SERVE__PORT": "9",
    }
