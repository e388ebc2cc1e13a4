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


def test_the_newest_is_found_and_only_two_are_kept(tmp_path):
    folder = CheckpointFolder(f"file://{tmp_path}/checkpoints")
    assert folder.latest() is None
    assert folder.progress() is None
    for epoch in range(4):
        folder.publish(checkpoint(epoch))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        checkpoint(2).name,
        checkpoint(3).name,
    ]
    latest = folder.latest()
    assert latest is not None
    assert (latest.epoch, latest.of, latest.history) == (3, 9, {"loss": [(3, 0.5)]})
    assert latest.weights["w"].tolist() == [3.0, 3.0]
    assert folder.progress() == (3, 9, {"loss": [(3, 0.5)]})


@pytest.mark.parametrize(
    "file", ["weights.safetensors", "optimizer.safetensors", "state.json", "state.sha256"]
)
def test_a_damaged_one_is_passed_over_and_can_be_written_again(tmp_path, file):
    folder = CheckpointFolder(f"file://{tmp_path}/checkpoints")
    folder.publish(checkpoint(0))
    folder.publish(checkpoint(1))
    path = tmp_path / "checkpoints" / checkpoint(1).name / file
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
    (tmp_path / "checkpoints" / f"{checkpoint(1).name}.tmp-abc").mkdir()
    (tmp_path / "checkpoints" / checkpoint(2).name).mkdir()  # an object store's: files, but no seal
    (tmp_path / "checkpoints" / checkpoint(2).name / "weights.safetensors").write_bytes(b"half")
    found = folder.latest()
    assert found is not None
    assert found.epoch == 0
