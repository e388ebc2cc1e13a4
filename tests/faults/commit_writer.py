"""A writer in a process of its own: appends one id after the other, and prints each when it is committed.

Run: python commit_writer.py HOME FIRST COUNT
"""

import sys
from pathlib import Path

import pyarrow as pa

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse

SCHEMA = pa.schema([pa.field("id", pa.int64())])


def main(home: str, first: int, count: int) -> None:
    table = Lakehouse(Settings(home=Path(home))).ensure_schema("raw.a", SCHEMA)
    for number in range(first, first + count):
        table.append(pa.table({"id": [number]}))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
