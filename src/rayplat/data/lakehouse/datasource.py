"""A Ray Data source over a scan: for work that needs the CPUs of other nodes.

Knows how files become read tasks with large blocks; it does not know what is done with them. For one
process that feeds one model, `batches` is the shorter way: nothing crosses the object store.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rayplat.data.lakehouse.scan import Scan
from rayplat.data.lakehouse.stored import ScanFile

if TYPE_CHECKING:
    from ray.data import Dataset

BLOCK_BYTES = 256 * 2**20
"""The aimed size of a block in memory: few blocks, for Ray keeps books of each one."""


def dataset(scan: Scan, *, block_bytes: int = BLOCK_BYTES, concurrency: int | None = None) -> "Dataset":
    """The rows of a scan as a Ray dataset; needs a connection to a cluster.

    Args:
        block_bytes: the aimed size of a block in memory, uncompressed.
        concurrency: how many read tasks may run at a time; as Ray likes if None.
    """
    import ray.data

    source = _datasource(scan, block_bytes)
    found: Dataset = ray.data.read_datasource(
        source, concurrency=concurrency, override_num_blocks=max(1, len(task_files(scan, block_bytes)))
    )
    return found


def task_files(scan: Scan, block_bytes: int = BLOCK_BYTES) -> list[tuple[ScanFile, ...]]:
    """Which files each read task has: neighbours, together about a block; a large file alone."""
    width = _row_bytes(scan.schema)
    tasks: list[list[ScanFile]] = []
    size = 0
    for file in scan.files:
        grown = file.rows * width
        if not tasks or size + grown > block_bytes:
            tasks.append([])
            size = 0
        tasks[-1].append(file)
        size += grown
    return [tuple(task) for task in tasks]


def _row_bytes(schema: pa.Schema) -> int:
    # Texts are guessed at 16 bytes: it only decides how many files go together.
    return sum(max(1, f.type.bit_width // 8) if pa.types.is_primitive(f.type) else 16 for f in schema) or 1


def _blocks(scan: Scan, files: Sequence[ScanFile], block_bytes: int) -> Iterator[pa.Table]:
    """The rows of some files, in tables of about the wanted size; one empty table if there are none."""
    waiting: list[pa.Table] = []
    size, given = 0, False
    for file in files:
        stored = scan.open(file)
        try:
            for group in stored.row_groups():
                data = stored.read([group])
                if waiting and size + data.nbytes > block_bytes:
                    yield pa.concat_tables(waiting)
                    waiting, size, given = [], 0, True
                waiting.append(data)
                size += data.nbytes
        finally:
            stored.close()
    if waiting or not given:
        yield pa.concat_tables([scan.schema.empty_table(), *waiting])


def _datasource(scan: Scan, block_bytes: int) -> Any:
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata
    from ray.data.context import DataContext

    class LakeDatasource(Datasource):
        """Made here, so that whoever imports this module does not import Ray."""

        def get_name(self) -> str:
            return f"Lake({scan.table})"

        def estimate_inmemory_data_size(self) -> int:
            return sum(file.rows for file in scan.files) * _row_bytes(scan.schema)

        def get_read_tasks(
            self,
            parallelism: int,
            per_task_row_limit: int | None = None,
            data_context: DataContext | None = None,
        ) -> list[ReadTask]:
            del parallelism, data_context  # files decide: a task more for the same file reads it twice
            return [self._task(files, per_task_row_limit) for files in task_files(scan, block_bytes) or [()]]

        def _task(self, files: Iterable[ScanFile], limit: int | None) -> ReadTask:
            chosen = tuple(files)
            rows = None if scan.wanted.where is not None else sum(file.rows for file in chosen)
            told = BlockMetadata(
                num_rows=rows,
                size_bytes=sum(file.rows for file in chosen) * _row_bytes(scan.schema),
                exec_stats=None,
                task_exec_stats=None,
                input_files=tuple(file.path for file in chosen),
            )
            read = partial(_blocks, scan, chosen, block_bytes)
            return ReadTask(read, told, schema=scan.schema, per_task_row_limit=limit)

    made: Any = LakeDatasource
    return made()
