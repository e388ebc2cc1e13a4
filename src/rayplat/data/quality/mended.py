"""Mended records: what somebody says that records in the quarantine should have been.

Knows the file they come in and which records they stand for; it does not know what they hold.
"""

from collections.abc import Mapping
from pathlib import Path

import orjson
import polars as pl

from rayplat.core.errors import NotFoundError, UserError
from rayplat.data.lakehouse.columns import OFFSET, PARTITION

Mended = Mapping[tuple[str, str], bytes]
"""(partition, offset) -> the record as it should have been, as JSON."""

_MOST_TOLD = 5


def read_mended(path: Path) -> Mended:
    """Read mended records: one JSON object a line, with `_partition` and `_offset` beside the columns.

    Raises:
        NotFoundError: there is no such file.
        UserError: a line is no such object, or two lines are of the same record; the line is named.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise NotFoundError(
            f"{path} cannot be read: {error.strerror}", "name a file of JSON lines"
        ) from error
    mended: dict[tuple[str, str], bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name = _name(line, f"{path}:{number}")
        if name in mended:
            raise UserError(
                f"{path}:{number}: record {'/'.join(name)} is there twice", "leave one of them out"
            )
        mended[name] = line
    if not mended:
        raise UserError(f"{path} holds no record", "write one JSON object a line")
    return mended


def _name(line: bytes, place: str) -> tuple[str, str]:
    mend = f'write {{"{PARTITION}": 0, "{OFFSET}": 17, …the declared columns…}} on one line'
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UserError(f"{place} is not JSON: {error}", mend) from error
    if not isinstance(record, dict) or PARTITION not in record or OFFSET not in record:
        raise UserError(f"{place} does not say which record it mends", mend)
    return str(record[PARTITION]), str(record[OFFSET])


def with_mended(found: pl.DataFrame, mended: Mended, table: str) -> pl.DataFrame:
    """Those of the records that are mended, with the mended bytes in place of the ones that came.

    Args:
        found: open records with `partition`, `offset` and `raw`.
        table: whose they are, for the message.

    Raises:
        NotFoundError: a mended record is not among them.
    """
    told = pl.DataFrame(
        [(*name, raw) for name, raw in mended.items()],
        schema={"partition": pl.String, "offset": pl.String, "raw": pl.Binary},
        orient="row",
    )
    names = ["partition", "offset"]
    unknown = told.join(found, on=names, how="anti")
    if unknown.height:
        first = ", ".join(f"{p}/{o}" for p, o in unknown.select(names).head(_MOST_TOLD).iter_rows())
        raise NotFoundError(
            f"{unknown.height} mended records are not in the quarantine of {table}: {first}",
            "give those that `rayplat data quarantine show` lists; a record that was replayed is not there "
            "any more",
        )
    return found.drop("raw").join(told, on=names, how="inner", maintain_order="left")
