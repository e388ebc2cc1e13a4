"""Raw records: the bytes of each, in one column.

Knows UTF-8; it does not look into the bytes otherwise. Columns besides the one are null.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayplat.core.project.table import Column
from rayplat.data.streaming.formats.fit import Misfit
from rayplat.data.streaming.formats.json_records import Decoded
from rayplat.data.streaming.formats.rows import Group, assemble


@dataclass(frozen=True, slots=True)
class RawDecoder:
    """Records as they are.

    Args:
        column: the column that takes them: `binary`, or `string` for text in UTF-8.
    """

    column: str
    columns: Mapping[str, Column]

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch. A record without a value is bad; one of no bytes is a value."""
        rows = [index for index, value in enumerate(values) if value is not None]
        bad = {i: "the record has no value" for i, value in enumerate(values) if value is None}
        taken: Sequence[Any] = [values[index] for index in rows]
        if self.columns[self.column].type == "string":
            taken = [_text(value) for value in taken]
        return assemble([Group(rows, {self.column: taken})], self.columns, bad)


def _text(value: bytes) -> str | Misfit:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        return Misfit(f"not UTF-8: the byte {value[error.start]:#04x} at {error.start}")
