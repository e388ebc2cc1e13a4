"""Semantic names: what Kafka Connect and Debezium say that a plain number or text means.

Knows the names and the encodings that they stand for; it does not know schemas or records. Sources:
Debezium's "Temporal values" and "Decimal types", Kafka Connect's logical types.
"""

from collections.abc import Mapping
from typing import Any

_TIMES = {
    "io.debezium.time.Timestamp": "ms",
    "io.debezium.time.MicroTimestamp": "us",
    "io.debezium.time.NanoTimestamp": "ns",
    "io.debezium.time.Date": "days",
    "org.apache.kafka.connect.data.Timestamp": "ms",
    "org.apache.kafka.connect.data.Date": "days",
}
_DECIMAL = "org.apache.kafka.connect.data.Decimal"


def encoding_of(name: str, parameters: Mapping[str, Any]) -> str:
    """How a value with a semantic name has to be read, see `fit.ENCODINGS`; empty: as it is.

    Args:
        name: the name, such as `io.debezium.time.MicroTimestamp`.
        parameters: those of its schema; a decimal has its `scale` there.
    """
    if name == _DECIMAL:
        scale = str(parameters.get("scale", "0"))
        return f"decimal({scale})" if scale.removeprefix("-").isdecimal() else ""
    return _TIMES.get(name, "")
