"""Pages of 64-bit values as machine code: their headers, and what is packed behind those.

Knows Parquet's page header (parquet.thrift, Thrift compact protocol) and the encodings PLAIN,
DELTA_BINARY_PACKED and BYTE_STREAM_SPLIT (Apache Parquet Format: Encodings.md); it does not know files.
No byte outside of what was given is read, whatever the bytes say.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

from rayplat.core.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
Number = Any
"""An integer of 64 bits; whether it has a sign is said where it is made."""

PLAIN, DELTA, SPLIT = 0, 5, 9
KIND, WHOLE, STORED, VALUES, ENCODING, FIRST = range(6)
"""The places of a header's numbers in what `headers` fills: kind of page, bytes when decompressed and as
stored, values, encoding; and where its bytes begin."""

_STOP, _BYTE, _DOUBLE, _BINARY, _STRUCT = 0, 3, 7, 8, 12
_DATA_HEADER, _DEPTH = 5, 4
_WIDE = 56
# The format has miniblocks of a multiple of so many values.
_STEP = 32
# So many values have their bytes in the first cache.
_TILE = 1024


def _word_at(_: Any, data: Any, at: Any) -> Any:
    """Eight bytes from a place on, which needs not be a multiple of eight, as a little-endian number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        begin = builder.gep(array.data, [arguments[1]])
        kind = context.get_value_type(types.uint64)
        word = builder.load(builder.bitcast(begin, kind.as_pointer()))
        word.align = 1
        return word

    return types.uint64(data, types.int64), generate


_word = cast("Callable[[Bytes, Number], Number]", intrinsic(_word_at))


@compiled
def _varint(data: Bytes, at: Number, end: int) -> tuple[Number, Number]:
    """A number of seven bits a byte, and where it ends; past `end` if it does not."""
    found, shift = np.uint64(0), np.uint64(0)
    while at < end:
        byte = np.uint64(data[at])
        at += 1
        if shift < np.uint64(64):
            found |= (byte & np.uint64(0x7F)) << shift
        shift += np.uint64(7)
        if byte < np.uint64(0x80):
            return found, at
    return found, end + 1


@compiled
def _signed(number: Number) -> Number:
    return np.int64(number >> np.uint64(1)) ^ -np.int64(number & np.uint64(1))


@compiled
def headers(data: Bytes, at: Number, told: Int64s) -> tuple[int, Number]:
    """Read the headers of consecutive pages.

    Args:
        data: the bytes; `at`: where the first header begins.
        told: -1; becomes the numbers of each page by place (see `KIND`), and where its bytes begin;
            shape (pages, 6). -1 stays where a header has no such number.

    Returns:
        How many pages were read, and where the next one begins: at the end of `data`, or where `told` is
        full; -1: these bytes are no pages.
    """
    for page in range(len(told)):
        if at == len(data):
            return page, at
        first = _header(data, at, told[page])
        size = told[page, STORED]
        if first < 0 or size < 0 or size > len(data) - first:
            return page, -1
        told[page, FIRST] = first
        at = first + size
    return len(told), at


@compiled
def _header(data: Bytes, at: Number, told: Int64s) -> Number:  # noqa: C901, PLR0912 - one loop over fields
    """Read a page header; returns where it ends, -1: these bytes are none."""
    end, depth = len(data), 0
    field = np.zeros(_DEPTH, np.int64)
    while at < end:
        head = data[at]
        at += 1
        if head == _STOP:
            depth -= 1
            if depth < 0:
                return at
            continue
        step, kind = np.int64(head >> 4), np.int64(head & 15)
        if step == 0:
            number, at = _varint(data, at, end)
            field[depth] = _signed(number)
        else:
            field[depth] += step
        if kind in {4, 5, 6}:
            number, at = _varint(data, at, end)
            if depth == 0 and 1 <= field[0] <= 3:
                told[field[0] - 1] = _signed(number)
            elif depth == 1 and field[0] == _DATA_HEADER and 1 <= field[1] <= 2:
                told[field[1] + 2] = _signed(number)
        elif kind == _BINARY:
            number, at = _varint(data, at, end)
            at += np.int64(min(number, np.uint64(end)))
        elif kind == _STRUCT:
            depth += 1
            if depth == _DEPTH:
                return -1
            field[depth] = 0
        elif kind == _DOUBLE:
            at += 8
        elif kind == _BYTE:
            at += 1
        elif kind > _BYTE:
            return -1
    return -1


@compiled
def unpack(data: Bytes, nullable: bool, encoding: int, out: Int64s) -> bool:
    """Decode a page without nulls.

    Args:
        data: its bytes, decompressed; `nullable`: whether levels come first, which all say that there is a
            value.
        encoding: of the values.
        out: becomes the values, or their bits; as many as the page has.

    Returns:
        False where these bytes are no such page; `out` is not whole then.
    """
    at: Number = 0
    if nullable:
        if len(data) < 4:
            return False
        levels = (
            np.int64(data[0]) | np.int64(data[1]) << 8 | np.int64(data[2]) << 16 | np.int64(data[3]) << 24
        )
        at = 4 + levels
    if encoding == DELTA:
        return _delta(data, at, out)
    if at + 8 * len(out) > len(data):
        return False
    if encoding == PLAIN:
        for index in range(len(out)):
            out[index] = np.int64(_word(data, at + 8 * index))
        return True
    if encoding == SPLIT:
        _joined(data, at, out)
        return True
    return False


@compiled
def _delta(data: Bytes, at: Number, out: Int64s) -> bool:
    end, rows = len(data), len(out)
    block, at = _varint(data, at, end)
    minis, at = _varint(data, at, end)
    count, at = _varint(data, at, end)
    first, at = _varint(data, at, end)
    if at > end or count != np.uint64(rows) or not 0 < minis <= block <= np.uint64(1 << 20):
        return False
    per, groups = np.int64(block // minis), np.int64(minis)
    if per % _STEP or rows == 0:
        return rows == 0
    value: Number = np.uint64(_signed(first))
    out[0] = np.int64(value)
    done = 1
    while done < rows:
        number, at = _varint(data, at, end)
        least, widths = np.uint64(_signed(number)), at
        at += groups
        if at > end:
            return False
        for group in range(groups):
            if done < rows:
                width: Number = np.int64(data[widths + group])
                many: Number = min(per, rows - done)
                size = (per * width) >> 3
                if width > 64 or at + size > end:
                    return False
                value = _sums(data, at, width, size, value, least, out[done : done + many])
                done += many
                at += size
    return True


@compiled
def _sums(  # noqa: PLR0917 - compiled: no keywords
    data: Bytes, at: Number, width: Number, size: Number, value: Number, least: Number, out: Int64s
) -> Number:
    """Values of a miniblock: each is the one before it, and `least`, and a packed number. Gives the last."""
    if width <= _WIDE and len(out) % _STEP == 0 and at + size + 8 <= len(data):
        mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
        bit = np.int64(0)
        # Loops of a number of steps that the compiler knows are unrolled: half the time.
        for begin in range(0, len(out), _STEP):
            for index in range(_STEP):
                value += least + ((_word(data, at + (bit >> 3)) >> np.uint64(bit & 7)) & mask)
                bit += width
                out[begin + index] = np.int64(value)
        return value
    for index in range(len(out)):
        value += least + _bits(data, at, index * width, width)
        out[index] = np.int64(value)
    return value


@compiled
def _bits(data: Bytes, at: Number, bit: Number, width: Number) -> Number:
    """A number of `width` bits, read byte by byte: near the end of a page, and where it may lie in nine."""
    found, have = np.uint64(0), np.int64(0)
    while have < width:
        place = bit + have
        skip = place & 7
        take = min(8 - skip, width - have)
        byte = (np.uint64(data[at + (place >> 3)]) >> np.uint64(skip)) & np.uint64((1 << take) - 1)
        found |= byte << np.uint64(have)
        have += take
    return found


@compiled
def _joined(data: Bytes, at: Number, out: Int64s) -> None:
    """Bring the eight streams of bytes together: two by two, then four pairs.

    These plain loops become instructions over many values, which one over all eight streams does not.
    """
    rows = len(out)
    pairs = np.empty((4, _TILE), np.uint16)
    for begin in range(0, rows, _TILE):
        many = min(_TILE, rows - begin)
        for pair in range(4):
            low = data[at + 2 * pair * rows + begin : at + 2 * pair * rows + begin + many]
            high = data[at + (2 * pair + 1) * rows + begin : at + (2 * pair + 1) * rows + begin + many]
            both = pairs[pair, :many]
            for row in range(many):
                both[row] = np.uint16(low[row]) | (np.uint16(high[row]) << np.uint16(8))
        a, b, c, d = pairs[0, :many], pairs[1, :many], pairs[2, :many], pairs[3, :many]
        into = out[begin : begin + many]
        for row in range(many):
            into[row] = np.int64(
                np.uint64(a[row])
                | (np.uint64(b[row]) << np.uint64(16))
                | (np.uint64(c[row]) << np.uint64(32))
                | (np.uint64(d[row]) << np.uint64(48))
            )
