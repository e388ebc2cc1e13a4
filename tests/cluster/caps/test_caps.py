"""Spot and on-demand nodes of a group together never exceed its max, whatever the autoscaler asks for."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.autoscaler.node_launch_exception import NodeLaunchException

from rayplat.cluster.caps.config import GROUP_OF, LIMITS, capped, main
from rayplat.cluster.caps.nodes import Capped
from rayplat.cluster.check.aws import _on_moto
from rayplat.cluster.check.launcher import prepared
from rayplat.core.errors import UserError

FOLDER = Path(__file__).parents[3] / "cluster"
KINDS = {"a-spot": "a", "a": "a", "b-spot": "b", "b": "b"}


class _Cloud:
    """A cloud that lists a node only some looks after it was started."""

    def __init__(self, provider_config: dict[str, Any]) -> None:
        self.provider_config = provider_config
        self.nodes: dict[str, str] = {}
        self.listed: set[str] = set()

    def create_node_with_resources_and_labels(
        self, _config: Any, tags: dict[str, str], count: int, _resources: Any, _labels: Any
    ) -> dict[str, Any]:
        made = {f"n{len(self.nodes) + i}": tags["ray-user-node-type"] for i in range(count)}
        self.nodes.update(made)
        return made  # type: ignore[return-value]

    def non_terminated_nodes(self, tags: dict[str, str]) -> list[str]:
        return [
            n for n, kind in self.nodes.items() if kind == tags["ray-user-node-type"] and n in self.listed
        ]

    def terminate_nodes(self, node_ids: list[str]) -> None:
        for node in node_ids:
            self.nodes[node] = "gone"


class _CappedCloud(Capped, _Cloud):
    """The cloud under limits."""


steps = st.lists(
    st.tuples(st.sampled_from(["start", "list", "end"]), st.sampled_from(sorted(KINDS)), st.integers(1, 6)),
    max_size=30,
)


@given(limits=st.fixed_dictionaries({"a": st.integers(0, 5), "b": st.integers(0, 5)}), steps=steps)
@settings(max_examples=150, deadline=None)
def test_a_group_never_exceeds_its_max(limits: dict[str, int], steps: list[tuple[str, str, int]]) -> None:
    cloud = _CappedCloud({GROUP_OF: KINDS, LIMITS: limits})
    for what, kind, count in steps:
        alive = [n for n, k in cloud.nodes.items() if KINDS.get(k) == KINDS[kind]]
        if what == "start":
            room = limits[KINDS[kind]] - len(alive)
            tags = {"ray-user-node-type": kind}
            if room:
                made = cloud.create_node_with_resources_and_labels({}, tags, count, {}, {})
                assert len(made) == min(count, room)
            else:
                with pytest.raises(NodeLaunchException, match="has its"):
                    cloud.create_node_with_resources_and_labels({}, tags, count, {}, {})
        elif what == "list":
            cloud.listed |= set(cloud.nodes)
        elif alive:
            cloud.terminate_nodes(alive[:count])
        for group, limit in limits.items():
            assert sum(KINDS.get(k) == group for k in cloud.nodes.values()) <= limit


@pytest.mark.parametrize("target", ["aws", "gcp"])
def test_ray_takes_the_capped_file_and_finds_the_provider(target: str, tmp_path: Path) -> None:
    from ray.autoscaler._private.providers import _get_node_provider_cls

    # What the launcher puts on the head has Ray's defaults in it already.
    there = tmp_path / "bootstrap.yaml"
    there.write_text(yaml.safe_dump(prepared(yaml.safe_load((FOLDER / f"{target}.yaml").read_text()))))
    main(str(there), str(tmp_path / "capped.yaml"))
    assert (tmp_path / "capped.yaml").stat().st_mode & 0o077 == 0
    config = prepared(yaml.safe_load((tmp_path / "capped.yaml").read_text()))
    assert config["provider"][LIMITS]["gpu-l4"] == 4
    assert config["provider"][GROUP_OF]["gpu-l4-spot"] == "gpu-l4"
    assert issubclass(_get_node_provider_cls(config["provider"]), Capped)


def test_a_file_without_groups_is_refused() -> None:
    with pytest.raises(UserError, match="names no groups"):
        capped({"provider": {"type": "aws"}, "available_node_types": {}})


def test_on_a_simulated_ec2_on_demand_stands_in_up_to_the_groups_max() -> None:
    from moto import mock_aws
    from ray.autoscaler._private.aws.config import bootstrap_aws

    from rayplat.cluster.caps.aws import CappedAws

    with mock_aws():
        document = _on_moto(yaml.safe_load((FOLDER / "aws.yaml").read_text()))
        ready = capped(copy.deepcopy(bootstrap_aws(prepared(document))))  # type: ignore[no-untyped-call]
        provider: Any = CappedAws(ready["provider"], ready["cluster_name"])  # type: ignore[no-untyped-call]

        def start(kind: str, count: int) -> int:
            tags = {"ray-node-type": "worker", "ray-user-node-type": kind, "ray-node-name": kind}
            config = ready["available_node_types"][kind]["node_config"]
            return len(provider.create_node_with_resources_and_labels(config, tags, count, {}, {}))

        # One at a time: EC2 gives at least one of what is asked for, and the simulated one gives no more.
        assert [start("gpu-l4-spot", 1) for _ in range(3)] == [1, 1, 1]
        assert start("gpu-l4", 4) == 1  # the group's max is 4
        with pytest.raises(NodeLaunchException, match="group gpu-l4 has its 4 nodes"):
            start("gpu-l4", 1)
        assert start("cpu", 1) == 1  # another group has its own limit
        provider.terminate_nodes(provider.non_terminated_nodes({"ray-user-node-type": "gpu-l4-spot"}))
        assert [start("gpu-l4", 9) for _ in range(3)] == [1, 1, 1]
        assert len(provider.non_terminated_nodes({"ray-user-node-type": "gpu-l4"})) == 4
