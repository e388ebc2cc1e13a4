"""Compaction in Ray tasks: the same result, and an error keeps its class on the way back."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from rayplat.core.errors import IntegrityError
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.maintenance.compact import Compaction
from rayplat.data.lakehouse.maintenance.plan import Bin, Packing
from rayplat.data.lakehouse.maintenance.tasks import in_tasks, runner
from tests.data.lakehouse.maintenance.worlds import assert_whole, filled, ids


def test_without_a_cluster_the_work_is_done_here(lake: Lakehouse) -> None:
    import ray

    table = filled(lake, 4)
    run = runner(0) if not ray.is_initialized() else runner()
    Compaction(table, Packing(min_files=2), run=run).compact()
    assert len(table.paths()) == 1
    assert ids(table) == list(range(40))


@pytest.mark.ray
def test_bins_are_rewritten_in_tasks(lake: Lakehouse, ray_session: Settings) -> None:
    table = filled(lake, 9)
    size = sum(Path(path.removeprefix("file://")).stat().st_size for path in table.paths())
    Compaction(table, Packing(size // 2, 2), run=in_tasks).compact()
    assert len(table.paths()) < 9
    assert ids(table) == list(range(90))
    assert_whole(table)


@pytest.mark.ray
def test_damage_and_loss_are_told_as_here(lake: Lakehouse, ray_session: Settings) -> None:
    table = filled(lake, 4)
    path = Path(min(table.paths()).removeprefix("file://"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="is damaged"):
        Compaction(table, Packing(min_files=2), run=in_tasks).compact()

    def missing(_: Bin) -> None:
        raise FileNotFoundError("gone")

    none: Sequence[Bin] = [Bin(0, (), ())]
    with pytest.raises(FileNotFoundError, match="gone"):
        list(in_tasks(missing, none))
