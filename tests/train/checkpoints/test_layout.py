import math

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from safetensors.torch import load

from rayplat.core.errors import IntegrityError, UserError
from rayplat.train.checkpoints.index import Index, Part, Shard, unseal
from rayplat.train.checkpoints.layout import Slice, lay_out, signature
from rayplat.train.checkpoints.snapshot import HostBuffers
from rayplat.train.checkpoints.tree import part
from tests.train.checkpoints.states import state


def bytes_of(tensors, layout) -> bytes:
    buffers = HostBuffers(1)
    buffer = buffers.take(layout.length, pinned=False)
    buffers.copy(layout, tensors, buffer)
    return layout.header + bytes(buffer.bytes(layout.length))


def test_a_shard_is_a_safetensors_file():
    _, tensors = part(state(3))
    found = load(bytes_of(tensors, lay_out(tensors, 0, 1)))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_views_and_big_tensors_are_copied_right():
    big = torch.arange(6_000_000, dtype=torch.float32)
    tensors = {"turned": big[:600].view(20, 30).t(), "every third": big[::3], "big": big}
    found = load(bytes_of(tensors, lay_out(tensors, 0, 1)))
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@hypothesis.given(
    sizes=st.lists(st.integers(0, 5000), max_size=20),
    world=st.integers(1, 5),
)
def test_each_replicated_tensor_is_written_by_one_rank_and_the_load_is_even(sizes, world):
    tensors = {f"t{n}": torch.empty(size) for n, size in enumerate(sizes)}
    layouts = [lay_out(tensors, rank, world) for rank in range(world)]
    names = sorted(one.name for layout in layouts for one in layout.slices)
    assert names == sorted(tensors)
    loads = [layout.length for layout in layouts]
    assert max(loads) - min(loads) <= 4 * max(sizes, default=0)


@hypothesis.given(st.permutations(["F64", "F16", "BOOL", "F32", "U8"]))
def test_slices_lie_close_and_on_multiples_of_their_elements(order):
    kinds = {
        "F64": torch.float64,
        "F16": torch.float16,
        "BOOL": torch.bool,
        "F32": torch.float32,
        "U8": torch.uint8,
    }
    tensors = {name: torch.zeros(3, dtype=kinds[name]) for name in order}
    layout, at = lay_out(tensors, 0, 1), 0
    for one in layout.slices:
        assert one.begin == at
        assert one.begin % kinds[one.dtype].itemsize == 0
        at += one.length
    assert at == layout.length


def test_what_safetensors_has_no_name_for_is_refused():
    with pytest.raises(UserError, match=r"'a' is a tensor of torch.complex128"):
        lay_out({"a": torch.zeros(1, dtype=torch.complex128)}, 0, 1)
    with pytest.raises(UserError, match="sparse"):
        lay_out({"a": torch.zeros(2, 2).to_sparse()}, 0, 1)


def test_a_layout_is_made_anew_when_the_state_changes():
    assert signature({"a": torch.zeros(2)}) == signature({"a": torch.ones(2)})
    changed = ({"a": torch.zeros(3)}, {"b": torch.zeros(2)}, {"a": torch.zeros(2).half()})
    assert all(signature({"a": torch.zeros(2)}) != signature(other) for other in changed)


def index_of(*boxes: tuple[tuple[int, ...], tuple[int, ...]]) -> Index:
    """An index of one tensor of 4 x 4 in as many shards as there are boxes of it."""
    parts = []
    for offsets, sizes in boxes:
        length = 4 * math.prod(sizes)
        shard = Shard("f", 8, length, "", ())
        parts.append(Part(shard, (Slice("t", "F32", (4, 4), offsets, sizes, 0, length),)))
    return Index(1, {}, {}, tuple(parts))


def test_parts_that_do_not_make_up_a_tensor_are_not_sealed():
    whole = index_of(((0, 0), (2, 4)), ((2, 0), (2, 4)))
    assert unseal(whole.seal(), "here") == whole
    for bad in (
        index_of(((0, 0), (2, 4))),
        index_of(((0, 0), (2, 4)), ((1, 0), (2, 4))),
        index_of(((0, 0), (4, 4)), ((0, 0), (4, 4))),
    ):
        with pytest.raises(IntegrityError, match="the ranks' parts of 't'"):
            bad.seal()


def test_an_index_of_another_format_is_refused():
    import hashlib

    body = b'{"format": 2}'
    with pytest.raises(IntegrityError, match="format 2"):
        unseal(hashlib.sha256(body).hexdigest().encode() + b"\n" + body, "here")
