"""Protobuf schemas: descriptors of the registry or of a compiled file, as classes to read messages with.

Knows descriptors and the files that come with Protobuf itself; it does not know records.
"""

import base64
import binascii
from collections.abc import Sequence

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from rayplat.data.streaming.formats.registry import RegisteredSchema

_WELL_KNOWN = {
    module.DESCRIPTOR.name: module.DESCRIPTOR
    for module in (
        any_pb2,
        descriptor_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
}
_ROOT = "rayplat-root.proto"


class ProtobufSchemaError(Exception):
    """Why messages of a schema cannot be read."""


class MessageTypes:
    """The messages of one file and of what it imports.

    Args:
        files: descriptors of files, each behind those that it imports.
        root: the name of the file whose messages a frame's path counts; empty: no file's.

    Raises:
        ProtobufSchemaError: the files do not hold together.
    """

    def __init__(self, files: Sequence[descriptor_pb2.FileDescriptorProto], root: str = "") -> None:
        self._pool = DescriptorPool()
        self._root = root
        given = {file.name for file in files}
        added: set[str] = set()
        try:
            for file in files:
                for name in file.dependency:
                    if name in _WELL_KNOWN and name not in given | added:
                        self._pool.AddSerializedFile(_WELL_KNOWN[name].serialized_pb)
                        added.add(name)
                if file.name not in added:
                    self._pool.AddSerializedFile(file.SerializeToString())
                    added.add(file.name)
        except (TypeError, KeyError, ValueError) as error:
            raise ProtobufSchemaError(f"its descriptors do not hold together: {error}") from error

    def named(self, name: str) -> type[Message]:
        """The message with this full name.

        Raises:
            ProtobufSchemaError: there is none.
        """
        try:
            found: type[Message] = GetMessageClass(self._pool.FindMessageTypeByName(name))
            return found
        except KeyError as error:
            raise ProtobufSchemaError(f"it has no message {name}") from error

    def at(self, path: Sequence[int]) -> type[Message]:
        """The message at a frame's path: the index of the top-level message, of the nested one, and so on.

        Raises:
            ProtobufSchemaError: there is none.
        """
        messages = list(self._pool.FindFileByName(self._root).message_types_by_name.values())
        descriptor = None
        for step in path:
            if step >= len(messages):
                raise ProtobufSchemaError(f"it has no message at {'.'.join(map(str, path))}")
            descriptor = messages[step]
            messages = list(descriptor.nested_types)
        if descriptor is None:
            raise ProtobufSchemaError("the path of the message is empty")
        found: type[Message] = GetMessageClass(descriptor)
        return found


def from_registry(schema: RegisteredSchema) -> MessageTypes:
    """The messages of a registered schema.

    Raises:
        ProtobufSchemaError: its descriptor, or that of an import, cannot be read.
    """
    files = [_file(reference.text, reference.name) for reference in schema.references]
    return MessageTypes([*files, _file(schema.text, _ROOT)], _ROOT)


def from_descriptor_set(content: bytes) -> MessageTypes:
    """The messages of a file that `protoc --descriptor_set_out --include_imports` wrote.

    Raises:
        ProtobufSchemaError: it is none, or imports are missing.
    """
    try:
        return MessageTypes(list(descriptor_pb2.FileDescriptorSet.FromString(content).file))
    except DecodeError as error:
        raise ProtobufSchemaError(f"it is no descriptor set: {error}") from error


def _file(text: str, name: str) -> descriptor_pb2.FileDescriptorProto:
    try:
        file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, DecodeError) as error:
        raise ProtobufSchemaError(f"the descriptor of {name} cannot be read: {error}") from error
    file.name = name
    return file
