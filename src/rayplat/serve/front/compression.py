"""Whether an Arrow IPC stream has compressed buffers, told before any of them is read.

Knows the few fields of Arrow's messages that say so (format/Message.fbs: the table `RecordBatch` has a
field `compression`) and how a FlatBuffers table is laid out; it does not know
schemas. A few kilobytes of a compressed buffer can stand for gigabytes.
"""

import struct

import pyarrow as pa

_HEADER = 2
_COMPRESSION = 3


def is_compressed(body: bytes) -> bool:
    """Whether a message of a stream is compressed, or holds a dictionary.

    Raises:
        ArrowInvalid: it is no stream.
    """
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    try:
        while True:
            message = reader.read_next_message()
            if message.type == "dictionary":
                return True
            if message.type == "record batch" and _has_compression(message.metadata.to_pybytes()):
                return True
    except StopIteration:
        return False
    except struct.error as error:
        raise pa.ArrowInvalid(f"a message cannot be read: {error}") from None


def _has_compression(metadata: bytes) -> bool:
    root = struct.unpack_from("<I", metadata)[0]
    header = _field(metadata, root, _HEADER)
    if header is None:
        return False
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    return _field(metadata, batch, _COMPRESSION) is not None


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a field of a table is; None where it is not given."""
    places = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, places)[0]:
        return None
    offset = struct.unpack_from("<H", data, places + 4 + 2 * number)[0]
    return table + offset if offset else None
