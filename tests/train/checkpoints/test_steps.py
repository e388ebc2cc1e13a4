import threading

import pytest
import torch

from rayplat.core.errors import UnavailableError, UserError
from rayplat.train.checkpoints.retention import Retention
from rayplat.train.checkpoints.steps import StepCheckpoints
from tests.servers import Aws, moto_server
from tests.train.checkpoints.states import files_of, same, state

__all__ = ["moto_server"]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["disk", "s3"])
def uri(request, tmp_path) -> str:
    """A new, empty place: on a disk, and in S3."""
    if request.param == "disk":
        return f"file://{tmp_path}/checkpoints"
    aws: Aws = request.getfixturevalue("moto_server")
    host = aws.endpoint.removeprefix("http://")
    return (
        f"s3://{aws.access_key}:{aws.secret_key}@{aws.fresh_bucket()}/run/checkpoints"
        f"?endpoint_override={host}&scheme=http&region={aws.region}"
    )


def saved(uri: str, *steps: int, **options) -> StepCheckpoints:
    checkpoints = StepCheckpoints(uri, **options)
    for step in steps:
        checkpoints.save_async(step, state(step)).wait(60)
    return checkpoints


def test_the_newest_comes_back_to_the_bit(uri):
    assert StepCheckpoints(uri).latest() is None
    saved(uri, 3, 12, 7)
    found = StepCheckpoints(uri).latest()
    assert found is not None
    assert found[0] == 12
    assert same(found[1], state(12))


def test_the_state_may_change_as_soon_as_the_call_returns(uri):
    now, checkpoints = state(1, size=800_000), StepCheckpoints(uri)
    handle = checkpoints.save_async(1, now)
    now["network"]["weight"].fill_(7)
    now["pair"][1].append("later")
    handle.wait(60)
    found = checkpoints.latest()
    assert found is not None
    assert same(found[1], state(1, size=800_000))
    assert handle.done()
    assert handle.durable_s is not None
    assert 0 < handle.stall_s < handle.durable_s


def test_retention_is_held_while_saving(uri):
    checkpoints = StepCheckpoints(uri, keep=Retention(last=1, best=1, metric="loss", every=100))
    for step, loss in ((90, 0.2), (100, 0.5), (150, 0.1), (160, 0.9), (170, 0.8)):
        checkpoints.save_async(step, state(step), about={"metrics": {"loss": loss}}).wait(60)
    assert [int(name.split("-")[1]) for name in checkpoints.names()] == [100, 150, 170]
    again = StepCheckpoints(uri, keep=Retention(last=1))
    again.save_async(180, state(180)).wait(60)
    assert [int(name.split("-")[1]) for name in again.names()] == [180]


def test_into_tensors_that_are_there(uri):
    saved(uri, 5)
    target = state(1)
    weight = target["network"]["weight"]
    found = StepCheckpoints(uri).latest(into=target)
    assert found is not None
    assert same(found[1], state(5))
    assert found[1]["network"]["weight"].data_ptr() == weight.data_ptr()


def test_into_another_state_changes_nothing(tmp_path):
    uri = f"file://{tmp_path}/checkpoints"
    saved(uri, 5)
    target = state(1, size=999)
    assert StepCheckpoints(uri).latest(into=target) is None
    assert same(target, state(1, size=999))


def test_every_flipped_bit_is_seen_and_the_one_before_serves(tmp_path):
    uri = f"file://{tmp_path}/checkpoints"
    saved(uri, 1, 2)
    (newest,) = tmp_path.glob("checkpoints/step-0000000002-*")
    places = 0
    for path in files_of(newest):
        content = path.read_bytes()
        for at in sorted({0, 7, 8, 100, len(content) // 3, len(content) // 2, len(content) - 1}):
            damaged = bytearray(content)
            damaged[at] ^= 1 << at % 8
            path.write_bytes(bytes(damaged))
            for into in (None, state(9)):
                found = StepCheckpoints(uri).latest(into=into)
                assert found is not None, (path, at)
                assert found[0] == 1, (path, at)
                assert same(found[1], state(1))
            places += 1
        for shorter in (b"", content[:-1]):
            path.write_bytes(shorter)
            found = StepCheckpoints(uri).latest()
            assert found is not None
            assert found[0] == 1
        path.write_bytes(content)
    assert places == 14
    found = StepCheckpoints(uri).latest()
    assert found is not None
    assert found[0] == 2


def test_a_file_that_is_gone(tmp_path):
    uri = f"file://{tmp_path}/checkpoints"
    saved(uri, 1, 2)
    (shard,) = tmp_path.glob("checkpoints/step-0000000002-*/shard*")
    shard.unlink()
    found = StepCheckpoints(uri).latest()
    assert found is not None
    assert found[0] == 1


def test_a_damaged_one_is_replaced_and_a_good_one_stays(tmp_path):
    uri = f"file://{tmp_path}/checkpoints"
    checkpoints = saved(uri, 1)
    (shard,) = tmp_path.glob("checkpoints/step-0000000001-*/shard*")
    checkpoints.save_async(1, state(1)).wait(60)
    assert shard.exists()
    shard.write_bytes(b"")
    checkpoints.save_async(1, state(1)).wait(60)
    assert not shard.exists()
    found = checkpoints.latest()
    assert found is not None
    assert same(found[1], state(1))


def test_what_killed_processes_left_behind_goes(tmp_path):
    uri = f"file://{tmp_path}/checkpoints"
    for left in (
        "step-0000000001-00000.tmp-abc-1",
        "step-0000000009-00000.tmp-abc-2",
        "step-0000000002-00000",
    ):
        (tmp_path / "checkpoints" / left).mkdir(parents=True)
        (tmp_path / "checkpoints" / left / "shard-00000-of-00001.safetensors").write_bytes(b"half")
    saved(uri, 5)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-0000000005-00000",
        "step-0000000009-00000.tmp-abc-2",  # may be in work: it is newer
    ]


def test_a_place_that_cannot_be_written_is_told_to_the_handle_and_the_next_save_is_tried(tmp_path):
    uri = f"file://{tmp_path}/checkpoints"
    checkpoints = saved(uri, 1)
    moved = (tmp_path / "checkpoints").rename(tmp_path / "moved")
    (tmp_path / "checkpoints").write_text("a file where a folder was")
    handle = checkpoints.save_async(2, state(2))
    with pytest.raises(UnavailableError, match="checkpoint of step 2 could not be written"):
        handle.wait(60)
    assert handle.durable_s is None
    (tmp_path / "checkpoints").unlink()
    moved.rename(tmp_path / "checkpoints")
    checkpoints.save_async(3, state(3)).wait(60)
    found = checkpoints.latest()
    assert found is not None
    assert found[0] == 3


class Held:
    """A place whose writes wait until they may go on."""

    def __init__(self, place) -> None:
        self._place, self.go, self.begun = place, threading.Event(), threading.Event()

    def __getattr__(self, name: str):
        return getattr(self._place, name)

    def begin(self, name: str, token: str):
        self.begun.set()
        assert self.go.wait(60)
        return self._place.begin(name, token)


def test_just_in_time_what_waits_gives_way(tmp_path):
    checkpoints = StepCheckpoints(f"file://{tmp_path}/checkpoints", buffers=2)
    held = checkpoints._place = Held(checkpoints._place)
    first = checkpoints.save_async(1, state(1))
    assert held.begun.wait(60)
    second = checkpoints.save_async(2, state(2))
    third = checkpoints.save_async(3, state(3), just_in_time=True)
    assert second.done()
    with pytest.raises(UnavailableError, match="gave way"):
        second.wait()
    with pytest.raises(UnavailableError, match="not durable within"):
        third.wait(0.01)
    held.go.set()
    first.wait(60)
    third.wait(60)
    checkpoints.wait(60)
    assert [int(name.split("-")[1]) for name in checkpoints.names()] == [1, 3]


def test_what_cannot_be_saved_is_told_at_once_and_costs_no_buffer(tmp_path):
    checkpoints = StepCheckpoints(f"file://{tmp_path}/checkpoints", buffers=1)
    for _ in range(3):
        with pytest.raises(UserError, match="a set at"):
            checkpoints.save_async(1, {"a": {1}})
        with pytest.raises(UserError, match="complex128"):
            checkpoints.save_async(1, {"a": torch.zeros(1, dtype=torch.complex128)})
    checkpoints.save_async(1, state(1)).wait(60)
    checkpoints.close()


def test_a_scheme_that_nothing_opens():
    with pytest.raises(UserError, match="cannot be opened"):
        StepCheckpoints("ftp://somewhere/run")
