"""Numbers and texts as bytes, one after the other: short, the same on every machine, read without guessing.

Knows the bytes of single values; it does not know what they mean together.
"""

import struct

from rayplat.core.errors import IntegrityError
from rayplat.features.aggregates.values import Value

_DOUBLE = struct.Struct("<d")


class Writer:
    """Appends values to bytes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def natural(self, number: int) -> None:
        """A whole number >= 0, seven bits a byte."""
        while number > 127:
            self.data.append(number & 127 | 128)
            number >>= 7
        self.data.append(number)

    def integer(self, number: int) -> None:
        """A whole number of any size."""
        body = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
        self.natural(len(body))
        self.data += body

    def value(self, kin: str, value: Value) -> None:
        """A value of an aggregate of that family."""
        if kin == "float":
            self.data += _DOUBLE.pack(value)
        elif kin == "text":
            body = str(value).encode()
            self.natural(len(body))
            self.data += body
        else:
            self.integer(int(value))


class Reader:
    """Reads what a `Writer` wrote, in the same order.

    Raises:
        IntegrityError: the bytes end too early; by every method.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def natural(self) -> int:
        """See `Writer.natural`."""
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    def integer(self) -> int:
        """See `Writer.integer`."""
        return int.from_bytes(self.take(self.natural()), "little", signed=True)

    def value(self, kin: str) -> Value:
        """See `Writer.value`."""
        if kin == "float":
            return float(_DOUBLE.unpack(self.take(8))[0])
        if kin == "text":
            return self.take(self.natural()).decode()
        return self.integer()

    def take(self, count: int) -> bytes:
        """The next bytes."""
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise IntegrityError(
                f"the state of an aggregate ends after {len(self._data)} bytes, in the middle of a value",
                "remove the online store and materialize again",
            )
        self._at += count
        return taken

    def end(self) -> None:
        """Check that everything was read."""
        if self._at != len(self._data):
            raise IntegrityError(
                f"the state of an aggregate has {len(self._data) - self._at} bytes too many",
                "remove the online store and materialize again",
            )
