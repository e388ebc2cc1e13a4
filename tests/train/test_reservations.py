"""What a killed run reserved is given back before it starts again, not after Ray's 180 s."""

from pathlib import Path

import pytest

from rayplat.core.settings import Settings
from rayplat.train.reservations import give_back_reservations, note_reservation


@pytest.mark.ray
def test_the_request_of_a_killed_group_is_cancelled(ray_session: Settings, tmp_path: Path) -> None:
    import ray
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
        get_or_create_autoscaling_coordinator,
    )

    coordinator = get_or_create_autoscaling_coordinator()
    run_uri = f"file://{tmp_path}/run"
    note_reservation(run_uri, "killed")
    ray.get(
        coordinator.request_resources.remote(
            requester_id="train-killed", resources=[{"CPU": 1}], expire_after_s=180
        )
    )
    assert ray.get(coordinator.get_reserved_resources.remote("train-killed", recompute=True))
    assert give_back_reservations(run_uri) == 1
    assert ray.get(coordinator.get_reserved_resources.remote("train-killed", recompute=True)) == {}
    assert give_back_reservations(run_uri) == 0
