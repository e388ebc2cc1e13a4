"""The bytes of a write-ahead file: frames, each with checksums of its head and of its payload.

Knows how frames are written and how whole, torn and damaged ones are told apart; it does not know what a
payload means, nor where files are.

A frame, little-endian: four bytes that begin every frame, the length of the payload (4), the CRC-32 of the
payload (4), the CRC-32 of the twelve bytes before (4), the payload. A process that is killed while it writes
leaves a part of a frame at the end of its file: that is torn, and nobody was told of it. Bytes that never
were a beginning of a frame, or a whole payload with another checksum, are damage; so is a length that the
head's checksum does not confirm. A tail of zeros is what a power cut leaves of a page that was not on the
disk yet: torn.
"""

import struct
import zlib
from dataclasses import dataclass

MAGIC = b"\xf1WAL"
_HEAD = struct.Struct("<4sIII")
_CHECKED = struct.Struct("<4sII")


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a stretch of a file holds.

    Attributes:
        payloads: of the whole frames, in order.
        ends: where each of them ends, counted from the beginning of the stretch.
        damaged: how many stretches between or behind whole frames are damaged.
        end: where the next frame begins; what is behind it is torn, or not written yet.
    """

    payloads: tuple[bytes, ...]
    ends: tuple[int, ...]
    damaged: int
    end: int


def frame(payload: bytes) -> bytes:
    """A payload as a frame."""
    checked = _CHECKED.pack(MAGIC, len(payload), zlib.crc32(payload))
    return b"".join((checked, zlib.crc32(checked).to_bytes(4, "little"), payload))


def scan(data: bytes) -> Scanned:
    """Read frames from the beginning of `data`; behind damage, go on at the next whole frame."""
    payloads: list[bytes] = []
    ends: list[int] = []
    place = damaged = 0
    while place < len(data):
        end = _whole(data, place)
        if end is None:
            if _torn(data, place):
                break
            damaged += 1
            place = _next_whole(data, place + 1)
            continue
        payloads.append(data[place + _HEAD.size : end])
        ends.append(end)
        place = end
    return Scanned(tuple(payloads), tuple(ends), damaged, place)


def _whole(data: bytes, place: int) -> int | None:
    """The end of the whole frame at `place`; None where there is none."""
    size = _size(data, place)
    if size is None or place + _HEAD.size + size > len(data):
        return None
    begin = place + _HEAD.size
    payload = memoryview(data)[begin : begin + size]
    return begin + size if zlib.crc32(payload) == _HEAD.unpack_from(data, place)[2] else None


def _size(data: bytes, place: int) -> int | None:
    """The length of the payload, if the head at `place` is whole and good."""
    if place + _HEAD.size > len(data):
        return None
    magic, size, _, crc = _HEAD.unpack_from(data, place)
    good = magic == MAGIC and zlib.crc32(memoryview(data)[place : place + _CHECKED.size]) == crc
    return int(size) if good else None


def _torn(data: bytes, place: int) -> bool:
    """Whether what is left is the beginning of a frame whose rest was never written."""
    rest = memoryview(data)[place:]
    if not any(rest[: _HEAD.size]) and not any(rest):
        return True
    if len(rest) < _HEAD.size:
        return bytes(rest[:4]) == MAGIC[: len(rest)]
    size = _size(data, place)
    return size is not None and place + _HEAD.size + size > len(data)


def _next_whole(data: bytes, place: int) -> int:
    """Where the next whole frame begins; the end of `data` where there is none."""
    while (place := data.find(MAGIC, place)) >= 0:
        if _whole(data, place) is not None:
            return place
        place += 1
    return len(data)
