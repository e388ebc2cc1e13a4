"""A published checkpoint back into memory: what is verified is what is used.

Knows how shards are read by several threads and held against their digests, and how slices become tensors; it
does not know which checkpoint is wanted (`steps`), or how a sharded tensor is cut (`resharding`).
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from rayplat.core.errors import IntegrityError, NotFoundError
from rayplat.train.checkpoints.index import BLOCK, Index, Shard, unseal
from rayplat.train.checkpoints.layout import DTYPES, Slice
from rayplat.train.checkpoints.places import INDEX, Place

_THREADS = 4


def read_index(place: Place, name: str) -> Index:
    """The verified index of a checkpoint.

    Raises:
        NotFoundError: it is not published.
        IntegrityError: the index is not what was written.
    """
    try:
        content = place.read(name, INDEX)
    except FileNotFoundError as error:
        raise NotFoundError(f"the checkpoint {name} is not published", "take another one") from error
    return unseal(content, name)


def intact(place: Place, name: str) -> bool:
    """Whether every byte of a checkpoint is what was written."""
    try:
        index = read_index(place, name)
        for part in index.parts:
            ShardReader(place, name, part.shard).fetch([(0, part.shard.length)])
    except (IntegrityError, NotFoundError, OSError):
        return False
    return True


@dataclass
class ShardReader:
    """The data of one shard, as far as it was fetched; every fetched block is verified."""

    place: Place
    name: str
    shard: Shard
    _data: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    _there: set[int] = field(default_factory=set)

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read and verify the blocks that these byte ranges touch, and the header.

        Raises:
            IntegrityError: a byte of them is not what was written.
        """
        if self._data.numel() != self.shard.length:
            # Untouched pages of it cost nothing, so a part of a shard does not cost the memory of all.
            self._data = torch.empty(self.shard.length, dtype=torch.uint8)
        wanted = {
            block
            for begin, end in ranges
            if end > begin
            for block in range(begin // BLOCK, (end - 1) // BLOCK + 1)
        } - self._there
        header = bytearray(self.shard.header)
        self._fill(memoryview(header), 0, self.shard.header_sha256)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="checkpoint-read") as pool:
            for _ in pool.map(self._block, sorted(wanted)):
                """Raises what the block raised."""
        self._there |= wanted

    def tensor(self, one: Slice) -> torch.Tensor:
        """A fetched slice: a view of what was read."""
        flat = self._data[one.begin : one.begin + one.length]
        return flat.view(DTYPES[one.dtype]).view(one.sizes)

    def _block(self, number: int) -> None:
        begin = number * BLOCK
        everything: Any = self._data.numpy()
        into = memoryview(everything)[begin : min(begin + BLOCK, self.shard.length)]
        self._fill(into, self.shard.header + begin, self.shard.blocks[number])

    def _fill(self, into: memoryview, offset: int, digest: str) -> None:
        read = self.place.read_into(self.name, self.shard.file, offset, into)
        if read != len(into) or hashlib.sha256(into).hexdigest() != digest:
            raise IntegrityError(
                f"{self.name}/{self.shard.file} is not what was written at byte {offset}", "remove the folder"
            )


def read_whole(place: Place, name: str, index: Index) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, whole and on the CPU, however many ranks wrote it.

    Raises:
        IntegrityError: a byte is not what was written.
        OSError: a file cannot be read.
    """
    index.check()
    readers = [ShardReader(place, name, part.shard) for part in index.parts]
    for reader in readers:
        reader.fetch([(0, reader.shard.length)])
    tensors: dict[str, torch.Tensor] = {}
    for tensor, chunks in index.chunks().items():
        number, first = chunks[0]
        if first.whole:
            tensors[tensor] = readers[number].tensor(first)
            continue
        tensors[tensor] = torch.empty(first.size, dtype=DTYPES[first.dtype])
        for at, one in chunks:
            box = tuple(slice(o, o + n) for o, n in zip(one.offsets, one.sizes, strict=True))
            tensors[tensor][box] = readers[at].tensor(one)
    return tensors
