"""Payloads: the values of a batch in one piece of memory, a line each.

Knows where each value begins and how long it is; it does not know where they came from, nor what they mean.
"""

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

_BREAK, _SPACE = 0x0A, 0x20
# Two values this near are copied with what lies between them: record headers of the same fetch. Less than
# a page, so that no byte between two readable ones can be unreadable.
_NEAR = 2048
_SHORT_GAP = 32

Numbers = npt.NDArray[np.int64]


class Payloads(Sequence[bytes | None]):
    """Values of a batch, without an object for each; one is made when it is asked for.

    Args:
        memory: the values; between two of them are a line break and blanks, and nothing else.
        starts: where each value begins in `memory`; `lengths`: how long it is, -1 where there is none.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, memory: npt.NDArray[np.uint8], starts: Numbers, lengths: Numbers) -> None:
        self._memory = memory
        self._starts = starts
        self._lengths = lengths

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> bytes | None: ...
    @overload
    def __getitem__(self, index: slice) -> "Payloads": ...
    def __getitem__(self, index: int | slice) -> "bytes | Payloads | None":
        if isinstance(index, slice):
            return self._part(*index.indices(len(self)))
        start, length = int(self._starts[index]), int(self._lengths[index])
        return self._memory[start : start + length].tobytes() if length >= 0 else None

    def _part(self, begin: int, end: int, step: int) -> "Payloads":
        if step != 1 or begin >= end:
            chosen = range(begin, end, step)
            return joined([self[i] for i in chosen])
        first, last = int(self._starts[begin]), end - 1
        until = int(self._starts[last]) + max(int(self._lengths[last]), 0)
        return Payloads(self._memory[first:until], self._starts[begin:end] - first, self._lengths[begin:end])

    def __iter__(self) -> Iterator[bytes | None]:
        whole = self._memory.tobytes()
        for start, length in zip(self._starts.tolist(), self._lengths.tolist(), strict=True):
            yield whole[start : start + length] if length >= 0 else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    @property
    def complete(self) -> bool:
        """Whether every value is there and has at least one byte."""
        return bool((self._lengths > 0).all())

    @property
    def nbytes(self) -> int:
        """The bytes of all values together."""
        return int(np.maximum(self._lengths, 0).sum())

    def lines(self) -> bytes:
        """All values, a line break and perhaps blanks between two of them."""
        return self._memory.tobytes()


def joined(values: Sequence[bytes | None]) -> Payloads:
    """Payloads of values that are objects already."""
    lengths = np.array([-1 if value is None else len(value) for value in values], np.int64)
    starts = np.zeros(len(values), np.int64)
    np.cumsum(np.maximum(lengths[:-1], 0) + 1, out=starts[1:])
    memory = np.frombuffer(b"\n".join(value or b"" for value in values), np.uint8)
    return Payloads(memory, starts, lengths)


def concatenated(parts: Sequence[Payloads]) -> Payloads:
    """Payloads one after the other."""
    if len(parts) == 1:
        return parts[0]
    pieces: list[Any] = []
    starts, lengths, at = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for part in parts:
        if not len(part):
            continue
        pieces += [np.array([_BREAK], np.uint8)] if pieces else []
        at += 1 if len(pieces) > 1 else 0
        pieces.append(part._memory)
        starts.append(part._starts + at)
        lengths.append(part._lengths)
        at += len(part._memory)
    memory = np.concatenate(pieces) if pieces else np.empty(0, np.uint8)
    return Payloads(memory, np.concatenate(starts), np.concatenate(lengths))


def gather(addresses: Numbers, lengths: Numbers) -> Payloads:
    """Copy values from this process's memory, where most of them lie side by side.

    A fetched batch of records is one piece of memory in which the values come in order, a few bytes of
    record headers between them. So whole runs are copied at once, and the headers are overwritten with a
    line break and blanks: two orders of magnitude fewer copies than one a value.

    Args:
        addresses: where each value begins; 0 where there is none.
        lengths: how long each is, bytes.
    """
    count = len(addresses)
    lengths = np.where(addresses == 0, -1, lengths)
    if not count:
        return Payloads(np.empty(0, np.uint8), lengths, lengths)
    sizes = np.maximum(lengths, 0)
    gaps = addresses[1:] - (addresses[:-1] + sizes[:-1])
    near = (gaps > 0) & (gaps < _NEAR) & (addresses[1:] != 0) & (addresses[:-1] != 0)
    # Where a run ends, one byte is left for the line break.
    widths = np.where(near, gaps, 1)
    starts = np.zeros(count, np.int64)
    np.cumsum(sizes[:-1] + widths, out=starts[1:])
    memory = np.empty(int(starts[-1] + sizes[-1]), np.uint8)
    begins = np.concatenate([[0], np.flatnonzero(~near) + 1])
    ends = np.concatenate([begins[1:] - 1, [count - 1]])
    base = memory.ctypes.data
    froms, tos = addresses[begins], base + starts[begins]
    spans = starts[ends] + sizes[ends] - starts[begins]
    for to, source, span in zip(tos.tolist(), froms.tolist(), spans.tolist(), strict=True):
        if span:
            ctypes.memmove(to, source, span)
    _blank(memory, starts[:-1] + sizes[:-1], widths)
    return Payloads(memory, starts, lengths)


def _blank(memory: npt.NDArray[np.uint8], ends: Numbers, widths: Numbers) -> None:
    """Put a line break and blanks into each gap of `widths` bytes behind `ends`."""
    if not len(ends):
        return
    memory[ends] = _BREAK
    least = int(widths.min())
    for step in range(1, min(least, _SHORT_GAP)):
        memory[ends + step] = _SPACE
    done = max(1, min(least, _SHORT_GAP))
    rest = np.flatnonzero(widths > done)
    if not len(rest):
        return
    left = widths[rest] - done
    first = np.repeat(ends[rest] + done - (np.cumsum(left) - left), left)
    memory[first + np.arange(int(left.sum()))] = _SPACE
