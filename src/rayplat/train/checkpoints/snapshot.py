"""A copy of the state in host memory: the only thing that training waits for.

Knows reused buffers and how bytes get into them fast; it does not know what is done with them (`writer`).

A buffer is touched when it is made, so that no save pays for page faults; on a CPU it lies in huge pages
where the kernel gives them, beside a GPU it is pinned. Two threads copy: one core alone does not use the
memory's bandwidth.
"""

import ctypes
import mmap
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from rayplat.train.checkpoints.layout import Layout, local_of

_PIECE = 16 << 20
_WORTH_A_THREAD = 8 << 20

Move = tuple[int, int, int]


class HostBuffer:
    """Bytes of host memory, touched, and reused from save to save.

    Args:
        length: bytes.
        pinned: whether a GPU copies into it.
    """

    def __init__(self, length: int, *, pinned: bool) -> None:
        if pinned:
            self.tensor = torch.empty(length, dtype=torch.uint8, pin_memory=True)
        else:
            # Huge pages are a wish: a kernel without them gives small ones.
            mapped = mmap.mmap(-1, max(length, mmap.PAGESIZE))
            if hasattr(mmap, "MADV_HUGEPAGE"):
                mapped.madvise(mmap.MADV_HUGEPAGE)
            self.tensor = torch.frombuffer(mapped, dtype=torch.uint8)
        self.tensor.zero_()

    @property
    def length(self) -> int:
        """How many bytes it holds."""
        return self.tensor.numel()

    def bytes(self, length: int) -> memoryview:
        """Its first bytes, not copied."""
        everything: Any = self.tensor.numpy()
        return memoryview(everything)[:length]


class HostBuffers:
    """A few buffers that take turns.

    Args:
        count: how many saves may be on their way at a time; each costs the memory of one state.
    """

    def __init__(self, count: int) -> None:
        self._left = threading.Semaphore(count)
        self._free: list[HostBuffer] = []
        self._count, self._made = count, 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-copy")

    def take(self, length: int, *, pinned: bool) -> HostBuffer:
        """A buffer of at least `length` bytes; waits while all are in use."""
        self._left.acquire()
        with self._lock:
            fitting = [one for one in self._free if one.length >= length]
            if fitting:
                self._free.remove(fitting[0])
                return fitting[0]
            if self._free:  # too small by now
                self._free.pop()
                self._made -= 1
            self._made += 1
        return HostBuffer(length, pinned=pinned)

    def give_back(self, buffer: HostBuffer) -> None:
        """It may be used again."""
        with self._lock:
            self._free.append(buffer)
        self._left.release()

    def prepare(self, length: int, *, pinned: bool) -> None:
        """Make every buffer that is still missing, so that no save has to."""
        while True:
            with self._lock:
                if self._made >= self._count:
                    return
                self._made += 1
            buffer = HostBuffer(length, pinned=pinned)
            with self._lock:
                self._free.append(buffer)

    def copy(self, layout: Layout, tensors: Mapping[str, torch.Tensor], buffer: HostBuffer) -> None:
        """Copy this rank's slices of the state into the buffer; when it returns, training may change them."""
        moves: list[Move] = []
        on_gpu = False
        alive = []
        for one in layout.slices:
            local = local_of(tensors[one.name])
            if local.device.type == "cpu" and local.is_contiguous():
                alive.append(local)
                moves.append((buffer.tensor.data_ptr() + one.begin, local.data_ptr(), one.length))
            elif one.length:
                to = buffer.tensor[one.begin : one.begin + one.length].view(local.dtype).view(local.shape)
                to.copy_(local, non_blocking=True)
                on_gpu = on_gpu or local.is_cuda
        self._move(moves)
        if on_gpu:
            torch.cuda.current_stream().synchronize()

    def _move(self, moves: list[Move]) -> None:
        pieces = _pieces(moves)
        if sum(length for _, _, length in moves) < _WORTH_A_THREAD:
            _run(pieces, threading.Lock())
            return
        lock = threading.Lock()
        other = self._pool.submit(_run, pieces, lock)
        _run(pieces, lock)
        other.result()


def _run(pieces: Iterator[Move], lock: threading.Lock) -> None:
    """Move pieces until there are none left; `memmove` lets go of the interpreter's lock."""
    while True:
        with lock:
            piece = next(pieces, None)
        if piece is None:
            return
        ctypes.memmove(*piece)


def _pieces(moves: list[Move]) -> Iterator[Move]:
    for to, source, length in moves:
        for at in range(0, length, _PIECE):
            yield to + at, source + at, min(_PIECE, length - at)
