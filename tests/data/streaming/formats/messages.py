"""Protobuf messages for tests, declared by descriptors, so that no compiler is needed."""

from typing import Any

from google.protobuf import descriptor_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_Field = descriptor_pb2.FieldDescriptorProto
_OPTIONAL, _REPEATED = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED


def _files() -> descriptor_pb2.FileDescriptorSet:
    places = descriptor_pb2.FileDescriptorProto(name="places.proto", package="shop", syntax="proto3")
    places.message_type.add(name="Place").field.add(name="city", number=1, type=9, label=_OPTIONAL)
    orders = descriptor_pb2.FileDescriptorProto(
        name="orders.proto",
        package="shop",
        syntax="proto3",
        dependency=["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto", "places.proto"],
    )
    status = orders.enum_type.add(name="Status")
    for number, name in enumerate(("NEW", "PAID")):
        status.value.add(name=name, number=number)
    orders.message_type.add(name="Other").nested_type.add(name="Deep").field.add(
        name="s", number=1, type=9, label=_OPTIONAL
    )
    order = orders.message_type.add(name="Order")
    plain = {"s": 9, "i": 3, "j": 5, "f": 1, "g": 2, "b": 8, "x": 12, "u": 4}
    for number, (name, kind) in enumerate(plain.items(), 1):
        order.field.add(name=name, number=number, type=kind, label=_OPTIONAL)
    named = {"t": ".google.protobuf.Timestamp", "w": ".google.protobuf.Int64Value", "place": ".shop.Place"}
    for number, (name, kind) in enumerate(named.items(), 10):
        order.field.add(name=name, number=number, type=11, label=_OPTIONAL, type_name=kind)
    order.field.add(name="e", number=20, type=14, label=_OPTIONAL, type_name=".shop.Status")
    order.field.add(name="many", number=21, type=3, label=_REPEATED)
    order.field.add(name="o", number=22, type=3, label=_OPTIONAL, proto3_optional=True, oneof_index=0)
    order.oneof_decl.add(name="_o")
    files = [_copy(timestamp_pb2), _copy(wrappers_pb2), places, orders]
    return descriptor_pb2.FileDescriptorSet(file=files)


def _copy(module: Any) -> descriptor_pb2.FileDescriptorProto:
    return descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


FILES = _files()
"""What `protoc --descriptor_set_out --include_imports orders.proto` would write."""
_POOL = DescriptorPool()
for _file in FILES.file:
    _POOL.AddSerializedFile(_file.SerializeToString())
Order: Any = GetMessageClass(_POOL.FindMessageTypeByName("shop.Order"))
"""Scalars, a time, a wrapper, a nested message, an enumeration, a repeated and an optional field."""
Deep: Any = GetMessageClass(_POOL.FindMessageTypeByName("shop.Other.Deep"))
"""A message nested in the first message of the file."""
