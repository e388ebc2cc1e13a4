"""What the autoscaler is told: Ray's own validation takes it, and it says what the cluster file says."""

from pathlib import Path
from typing import Any

from rayplat.cluster.caps.config import GROUP_OF, LIMITS
from rayplat.cluster.local.autoscaler import autoscaling_config, head_environment, new_node_id
from rayplat.cluster.spec import load_spec, parse_spec

ROOT = Path(__file__).parents[3]
SPEC = """
name: small
groups:
  head: {kind: head, cpus: 2}
  gpu: {kind: gpu, accelerator: L4, gpus: 1, cpus: 4, memory_gib: 16, min: 1, max: 4, spot: {share: 0.5}}
local: {simulate: true, speedups: {idle_timeout_s: 7}}
"""


def config(text: str = SPEC) -> dict[str, Any]:
    return autoscaling_config(
        parse_spec(text),
        gcs_address="127.0.0.1:1",
        head_id=new_node_id(),
        head_cpus=2,
        head_gpus=0,
        folder=Path("/nodes"),
    )


def test_rays_own_validation_takes_it() -> None:
    from ray.autoscaler._private.util import validate_config
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    made = config((ROOT / "cluster" / "platform.yaml").read_text())
    validate_config(made)
    types = AutoscalingConfig(made, skip_content_hash=True).get_node_type_configs()
    spec = load_spec(ROOT / "cluster" / "platform.yaml")
    assert types is not None
    for name, group in spec.workers.items():
        limits = [t.max_worker_nodes for key, t in types.items() if key in (name, f"{name}-spot")]
        assert sum(limits) == group.max, name
    assert all(node_type.resources for node_type in types.values())


def test_limits_markets_and_idle_timeouts_are_the_files() -> None:
    types = config()["available_node_types"]
    assert set(types) == {"head", "gpu", "gpu-spot"}
    assert [types[t]["max_workers"] for t in ("gpu-spot", "gpu")] == [2, 2]
    assert sum(types[t]["min_workers"] for t in ("gpu-spot", "gpu")) == 1
    assert {types[t]["idle_timeout_s"] for t in ("gpu-spot", "gpu")} == {7}
    assert types["gpu-spot"]["resources"]["GPU"] == 1
    assert types["gpu-spot"]["labels"]["ray.io/market-type"] == "spot"
    assert config()["max_workers"] == 4


def test_the_provider_is_told_the_groups_limits_and_how_spot_nodes_go() -> None:
    plain = config()["provider"]
    assert plain[LIMITS] == {"gpu": 4}
    assert plain[GROUP_OF] == {"gpu": "gpu", "gpu-spot": "gpu"}
    assert "spot_trace" not in plain
    taken = config(SPEC.replace("simulate: true", "simulate: true, spot_trace: {seed: 3, stay_s: 60}"))
    assert taken["provider"]["spot_trace"] == {"seed": 3, "stay_s": 60, "notice_s": 5}


def test_the_head_is_told_to_the_autoscaler_under_its_own_id() -> None:
    variables = head_environment(parse_spec(SPEC), "ab" * 28)
    assert variables["RAY_CLOUD_INSTANCE_ID"] == variables["RAY_OVERRIDE_NODE_ID_FOR_TESTING"] == "ab" * 28
    assert variables["RAY_NODE_TYPE_NAME"] == "head"
    assert int(variables["AUTOSCALER_UPDATE_INTERVAL_S"]) >= 1
