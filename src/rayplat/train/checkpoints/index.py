"""The index of a checkpoint: what it holds, in which files, and what their bytes must be.

Knows its JSON, its seal, and whether the ranks' parts make up every tensor exactly once; it does not know how
files are read or written (`places`), or what the state means.

It takes the place of the metadata that torch.distributed.checkpoint pickles: reading it runs no code.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rayplat.core.errors import IntegrityError
from rayplat.train.checkpoints.layout import DTYPES, Slice

_FORMAT = 1
BLOCK = 8 << 20
"""Bytes that one digest covers: a reader of a part of a shard verifies the blocks that it touches."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The file of one rank, and the digest of every byte in it.

    Attributes:
        header: bytes before the data.
        length: bytes of the data.
        header_sha256: of the header.
        blocks: SHA-256 of each `BLOCK` bytes of the data; the last one may be shorter.
    """

    file: str
    header: int
    length: int
    header_sha256: str
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What one rank has written: its file, and the slices in it."""

    shard: Shard
    slices: tuple[Slice, ...]

    def as_json(self) -> bytes:
        """To tell the rank that seals."""
        return json.dumps({"shard": asdict(self.shard), "slices": [asdict(s) for s in self.slices]}).encode()

    @staticmethod
    def of_json(text: bytes) -> "Part":
        """What a rank has told."""
        plain = json.loads(text)
        return Part(_shard(plain["shard"]), tuple(_slice(one) for one in plain["slices"]))


@dataclass(frozen=True, slots=True)
class Index:
    """A checkpoint as its index tells it.

    Attributes:
        step: how many steps were done.
        skeleton: the state without its tensors, see `tree`.
        about: metrics and whatever else is told of it, for retention and people.
        parts: of every rank, in order.
    """

    step: int
    skeleton: Any
    about: Mapping[str, Any]
    parts: tuple[Part, ...]

    def chunks(self) -> dict[str, list[tuple[int, Slice]]]:
        """By tensor, its slices, each with the number of its shard, in the order of their offsets."""
        found: dict[str, list[tuple[int, Slice]]] = {}
        for number, part in enumerate(self.parts):
            for one in part.slices:
                found.setdefault(one.name, []).append((number, one))
        for slices in found.values():
            slices.sort(key=lambda pair: pair[1].offsets)
        return found

    def seal(self) -> bytes:
        """The bytes of the index file: a line with the digest of the rest, and the rest.

        Raises:
            IntegrityError: the parts do not make up every tensor exactly once.
        """
        self.check()
        body = json.dumps(
            {
                "format": _FORMAT,
                "step": self.step,
                "about": dict(self.about),
                "state": self.skeleton,
                "parts": [json.loads(part.as_json()) for part in self.parts],
            }
        ).encode()
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    def check(self) -> None:
        """See `seal`."""
        for name, chunks in self.chunks().items():
            slices = [one for _, one in chunks]
            whole, kept = math.prod(slices[0].size), sum(math.prod(one.sizes) for one in slices)
            alike = {(one.size, one.dtype) for one in slices}
            if len(alike) != 1 or whole != kept or _overlapping(slices):
                raise IntegrityError(
                    f"the ranks' parts of {name!r} hold {kept} elements of {whole}",
                    "save the same state on every rank, each with its own rank and the same world size",
                )


def unseal(content: bytes, where: str) -> Index:
    """The index in an index file.

    Raises:
        IntegrityError: a byte of it is not what was written, or it has another format.
    """
    seal, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != seal:
        raise IntegrityError(f"the index of {where} is not what was written", "remove the folder")
    plain = json.loads(body)
    if plain["format"] != _FORMAT:
        raise IntegrityError(
            f"{where} has format {plain['format']}, and {_FORMAT} is what is known here",
            "read it with the version of rayplat that wrote it",
        )
    parts = tuple(
        Part(_shard(part["shard"]), tuple(_slice(one) for one in part["slices"])) for part in plain["parts"]
    )
    return Index(int(plain["step"]), plain["state"], plain["about"], parts)


def _shard(plain: Mapping[str, Any]) -> Shard:
    return Shard(
        file=str(plain["file"]),
        header=int(plain["header"]),
        length=int(plain["length"]),
        header_sha256=str(plain["header_sha256"]),
        blocks=tuple(map(str, plain["blocks"])),
    )


def _slice(plain: Mapping[str, Any]) -> Slice:
    if plain["dtype"] not in DTYPES:
        raise IntegrityError(f"{plain['name']!r} has elements of type {plain['dtype']!r}", "")
    return Slice(
        name=str(plain["name"]),
        dtype=str(plain["dtype"]),
        size=tuple(plain["size"]),
        offsets=tuple(plain["offsets"]),
        sizes=tuple(plain["sizes"]),
        begin=int(plain["begin"]),
        length=int(plain["length"]),
    )


def _overlapping(slices: Sequence[Slice]) -> bool:
    """Whether two boxes of a tensor share an element."""
    return any(
        all(
            a < b + length and b < a + own
            for a, own, b, length in zip(one.offsets, one.sizes, other.offsets, other.sizes, strict=True)
        )
        for at, one in enumerate(slices)
        for other in slices[at + 1 :]
    )
