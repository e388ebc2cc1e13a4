"""Data files: Parquet written under a table's location by whoever has the rows.

Knows how a file is written and named; it does not know the catalog. A file that no snapshot names is
invisible, so a writer may die at any moment.
"""

import uuid

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

_ROW_GROUP_ROWS = 131_072


def write_file(data: pa.Table, schema: pa.Schema, location: str) -> str:
    """Write rows as one Parquet file (zstd, page checksums).

    Args:
        data: rows with the columns of `schema`, in any order.
        schema: the table's schema with Iceberg field ids, as `LakeTable.file_schema` gives it.
        location: the table's location: `file://`, `s3://` or `gs://`.

    Returns:
        The file's address, for a commit.
    """
    path = f"{location.rstrip('/')}/data/{uuid.uuid4().hex}.parquet"
    system, inside = pafs.FileSystem.from_uri(path)
    if isinstance(system, pafs.LocalFileSystem):
        system.create_dir(inside.rpartition("/")[0], recursive=True)
    columns = [data[field.name].cast(field.type) for field in schema]
    with system.open_output_stream(inside) as sink:
        pq.write_table(
            pa.Table.from_arrays(columns, schema=schema),
            sink,
            compression="zstd",
            row_group_size=_ROW_GROUP_ROWS,
            write_page_checksum=True,
            store_schema=False,
        )
    return path
