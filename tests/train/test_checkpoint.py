import pytest
import torch

from rayplat.train.checkpoint import Checkpoint, CheckpointFolder, flatten_optimizer, unflatten_optimizer

pytestmark = pytest.mark.timeout(60)


def stepped(kind, **options):
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    optimizer = kind(network.parameters(), lr=0.1, **options)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.ones(4, 3)).sum().backward()
        optimizer.step()
    return network, optimizer


@pytest.mark.parametrize(
    ("kind", "options"),
    [(torch.optim.AdamW, {}), (torch.optim.SGD, {"momentum": 0.9}), (torch.optim.SGD, {})],
)
def test_an_optimizer_goes_on_as_if_it_had_never_stopped(kind, options):
    network, optimizer = stepped(kind, **options)
    tensors, rest = flatten_optimizer(optimizer.state_dict())
    again, fresh = stepped(kind, **options)
    again.load_state_dict(network.state_dict())
    fresh = kind(again.parameters(), lr=0.7, **options)
    fresh.load_state_dict(unflatten_optimizer(tensors, rest))
    for n, o in ((network, optimizer), (again, fresh)):
        o.zero_grad()
        n(torch.ones(4, 3)).pow(2).sum().backward()
        o.step()
    assert torch.equal(network.weight, again.weight)
    assert fresh.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def checkpoint(epoch: int) -> Checkpoint:
    _, optimizer = stepped(torch.optim.AdamW)
    return Checkpoint(
        epoch, {"w": torch.full((2,), float(epoch))}, optimizer.state_dict(), {"loss": [(epoch, 0.5)]}, 9
    )


def folders(tmp_path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "checkpoints").iterdir())


def test_the_newest_is_found_and_only_two_are_kept(tmp_path):
    folder = CheckpointFolder(f"file://{tmp_path}/checkpoints")
    assert folder.latest() is None
    assert folder.progress() is None
    for epoch in range(4):
        folder.publish(checkpoint(epoch))
    assert folders(tmp_path) == ["step-0000000000-00003", "step-0000000000-00004"]
    latest = folder.latest()
    assert latest is not None
    assert (latest.epoch, latest.of, latest.history) == (3, 9, {"loss": [(3, 0.5)]})
    assert latest.weights["w"].tolist() == [3.0, 3.0]
    assert folder.progress() == (3, 9, {"loss": [(3, 0.5)]})


def test_everything_of_a_run_comes_back_with_its_types(tmp_path):
    network, optimizer = stepped(torch.optim.AdamW)
    folder = CheckpointFolder(f"file://{tmp_path}/checkpoints")
    folder.publish(
        Checkpoint(
            2, network.state_dict(), optimizer.state_dict(), {}, 9, 37, (3, 1), {4: 0.5, 5: float("nan")}
        )
    )
    found = folder.latest()
    assert found is not None
    assert (found.epoch, found.step, found.at) == (2, 37, (3, 1))
    assert found.curve[4] == 0.5
    assert found.curve[5] != found.curve[5]
    again = torch.optim.AdamW(network.parameters())
    again.load_state_dict(found.optimizer)
    for one, other in zip(again.state.values(), optimizer.state.values(), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert again.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


@pytest.mark.parametrize("file", ["shard", "index"])
def test_a_damaged_one_is_passed_over_and_can_be_written_again(tmp_path, file):
    folder = CheckpointFolder(f"file://{tmp_path}/checkpoints")
    folder.publish(checkpoint(0))
    folder.publish(checkpoint(1))
    newest = tmp_path / "checkpoints" / folders(tmp_path)[-1]
    (path,) = (p for p in newest.iterdir() if p.name.startswith(file))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    found = folder.latest()
    assert found is not None
    assert found.epoch == 0
    folder.publish(checkpoint(1))
    found = folder.latest()
    assert found is not None
    assert found.epoch == 1


def test_a_half_written_one_is_never_seen(tmp_path):
    folder = CheckpointFolder(f"file://{tmp_path}/checkpoints")
    folder.publish(checkpoint(0))
    (tmp_path / "checkpoints" / "step-0000000000-00002.tmp-abc").mkdir()
    (tmp_path / "checkpoints" / "step-0000000000-00003").mkdir()  # an object store's: files, but no index
    (tmp_path / "checkpoints" / "step-0000000000-00003" / "shard.safetensors").write_bytes(b"half")
    found = folder.latest()
    assert found is not None
    assert found.epoch == 0
