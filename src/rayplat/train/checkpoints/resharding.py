"""A checkpoint into tensors that are cut in another way than when it was written.

Knows how torch.distributed.checkpoint's load plan maps saved boxes to local ones; it does not know which
checkpoint is wanted. The plan is theirs; its metadata comes from our index, and its reads go through our
verified shards, so nothing is unpickled.
"""

from collections.abc import Mapping
from typing import Any

import torch

from rayplat.core.errors import IntegrityError
from rayplat.train.checkpoints.index import Index
from rayplat.train.checkpoints.layout import DTYPES, Slice
from rayplat.train.checkpoints.places import Place
from rayplat.train.checkpoints.reading import ShardReader


class Resharded:
    """What this rank needs of a checkpoint, read and verified, before anything is changed.

    Args:
        tensors: the targets by name; DTensors take this rank's part alone.

    Raises:
        IntegrityError: a byte that is needed is not what was written, or the shapes differ.
        OSError: a file cannot be read.
    """

    def __init__(self, place: Place, name: str, index: Index, tensors: Mapping[str, torch.Tensor]) -> None:
        from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner

        index.check()
        chunks = index.chunks()
        self._planner: Any = DefaultLoadPlanner(flatten_state_dict=False)
        try:
            self._planner.set_up_planner(dict(tensors), _metadata(chunks), True)
            self._items = self._planner.create_local_plan().items
        except (RuntimeError, ValueError, KeyError) as error:
            raise IntegrityError(
                f"the checkpoint {name} is of another state: {error}",
                "load it into the network and optimizer that it was written from",
            ) from error
        self._slices = {(n, one.offsets): (at, one) for n, list_ in chunks.items() for at, one in list_}
        self._readers = [ShardReader(place, name, part.shard) for part in index.parts]
        self._fetch()

    def copy(self) -> None:
        """Put what was read into the targets."""
        with torch.no_grad():
            for item in self._items:
                number, one = self._source(item)
                source = self._readers[number].tensor(one)
                for dim, (offset, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                    source = source.narrow(dim, offset, length)
                self._planner.resolve_tensor(item).detach().copy_(source)

    def _fetch(self) -> None:
        ranges: dict[int, list[tuple[int, int]]] = {}
        for item in self._items:
            number, one = self._source(item)
            ranges.setdefault(number, []).append((one.begin, one.begin + one.length))
        for number, wanted in ranges.items():
            self._readers[number].fetch(wanted)

    def _source(self, item: Any) -> tuple[int, Slice]:
        index = item.storage_index
        return self._slices[index.fqn, tuple(index.offset)]


def _metadata(chunks: Mapping[str, list[tuple[int, Slice]]]) -> Any:
    from torch.distributed.checkpoint.metadata import (
        ChunkStorageMetadata,
        Metadata,
        TensorProperties,
        TensorStorageMetadata,
    )

    return Metadata(
        state_dict_metadata={
            name: TensorStorageMetadata(
                properties=TensorProperties(dtype=DTYPES[slices[0][1].dtype]),
                size=torch.Size(slices[0][1].size),
                chunks=[
                    ChunkStorageMetadata(torch.Size(one.offsets), torch.Size(one.sizes)) for _, one in slices
                ],
            )
            for name, slices in chunks.items()
        }
    )
