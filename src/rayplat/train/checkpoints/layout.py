"""Which bytes of the state a rank writes, and where they are in its file.

Knows who writes which part of a tensor (by the plans of torch.distributed.checkpoint) and the safetensors
header that says so; it does not copy or write anything (`snapshot`, `writer`).

No rank asks another: a sharded tensor's local part is its rank's; a replicated tensor is given to one rank by
its size and name alone, so all ranks come to the same result. Whether the parts are whole is checked when
they are sealed (`index`).
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rayplat.core.errors import UserError

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The element types of safetensors, by their names there."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Slice:
    """A box of a tensor, and where its bytes are among those of one shard.

    Attributes:
        name: of the tensor.
        dtype: as safetensors calls it.
        size: of the whole tensor.
        offsets, sizes: the box.
        begin, length: bytes in the shard's data.
    """

    name: str
    dtype: str
    size: tuple[int, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    begin: int
    length: int

    @property
    def whole(self) -> bool:
        """Whether the box is the whole tensor."""
        return self.size == self.sizes


@dataclass(frozen=True, slots=True)
class Layout:
    """What one rank writes: its slices in the order of their bytes.

    Attributes:
        header: what comes before the data in a safetensors file.
        length: bytes of the data.
    """

    slices: tuple[Slice, ...]
    header: bytes
    length: int


def lay_out(tensors: Mapping[str, torch.Tensor], rank: int, world: int) -> Layout:
    """The part of the state that this rank writes.

    Args:
        tensors: the state by name, the same names on every rank; DTensors hold this rank's part.

    Raises:
        UserError: a tensor is of a kind that cannot be kept.
    """
    boxes: list[tuple[str, torch.Tensor, tuple[int, ...]]] = []
    for name, tensor in tensors.items():
        if is_sharded(tensor):
            box = _local_box(name, tensor)
            if box is not None:
                boxes.append((name, tensor, box))
    boxes += [(name, t, (0,) * t.dim()) for name, t in _replicated(tensors, rank, world)]
    # Wide elements first: each slice then begins at a multiple of its element's size, without gaps.
    boxes.sort(key=lambda box: (-box[1].element_size(), box[0]))
    slices, begin = [], 0
    for name, tensor, offsets in boxes:
        local = local_of(tensor)
        size, sizes = tuple(tensor.shape), tuple(local.shape)
        length = math.prod(sizes) * local.element_size()
        slices.append(Slice(name, _dtype_name(name, local), size, offsets, sizes, begin, length))
        begin += length
    return Layout(tuple(slices), _header(slices), begin)


def signature(tensors: Mapping[str, torch.Tensor]) -> tuple[Any, ...]:
    """What decides a layout beside rank and world: as long as it is the same, the layout is."""
    return tuple((name, t.dtype, t.shape, getattr(t, "placements", None)) for name, t in tensors.items())


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor; told without importing what would define one."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local_of(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def _local_box(name: str, tensor: Any) -> tuple[int, ...] | None:
    """Where this rank's part of a DTensor begins; None where another rank writes the same, or it is empty."""
    from torch.distributed.checkpoint.default_planner import create_default_local_save_plan

    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None or math.prod(tensor.to_local().shape) == 0:
        return None
    for at, placement in zip(coordinate, tensor.placements, strict=True):
        if placement.is_partial():
            raise UserError(f"{name!r} is a sum that is not done yet", "redistribute it before it is saved")
        if placement.is_replicate() and at != 0:
            return None
    item: Any = create_default_local_save_plan({name: tensor}, False).items[0]
    return tuple(item.tensor_data.chunk.offsets)


def _replicated(tensors: Mapping[str, torch.Tensor], rank: int, world: int) -> list[tuple[str, torch.Tensor]]:
    """This rank's share of what all ranks hold alike: the largest first, each to who has the least."""
    alike = [(name, t) for name, t in tensors.items() if not is_sharded(t)]
    if world == 1:
        return alike
    load, mine = [0] * world, []
    for name, tensor in sorted(alike, key=lambda one: (-one[1].nbytes, one[0])):
        to = load.index(min(load))
        load[to] += tensor.nbytes
        if to == rank:
            mine.append((name, tensor))
    return mine


def _dtype_name(name: str, tensor: torch.Tensor) -> str:
    if tensor.layout is not torch.strided or tensor.dtype not in _NAMES:
        raise UserError(
            f"{name!r} is a tensor of {tensor.dtype} with layout {tensor.layout}",
            f"a checkpoint holds dense tensors of {', '.join(_NAMES.values())}",
        )
    return _NAMES[tensor.dtype]


def _header(slices: list[Slice]) -> bytes:
    """The header of a safetensors file: its length in 8 bytes, then JSON, padded to a multiple of 8."""
    entries = {}
    for one in slices:
        key = one.name if one.whole else f"{one.name}@{','.join(map(str, one.offsets))}"
        entries[key] = {
            "dtype": one.dtype,
            "shape": one.sizes,
            "data_offsets": (one.begin, one.begin + one.length),
        }
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
