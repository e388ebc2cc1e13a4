"""Batches for PyTorch: the rows of a scan as dictionaries of tensors, copied as little as can be.

Knows how columns become tensors and how batches run over row groups and files; it does not know which
files there are (see `scan`), and nothing of training. Columns that lie in the file as plain values are
views of the mapped file; the others are decoded one row group ahead.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from rayplat.core.errors import UserError
from rayplat.data.lakehouse.ahead import ahead
from rayplat.data.lakehouse.plain_pages import PlainPages
from rayplat.data.lakehouse.scan import Scan
from rayplat.data.lakehouse.stored import StoredFile

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]


def torch_batches(
    scan: Scan,
    batch_size: int = 8192,
    *,
    columns: Sequence[str] | None = None,
    dtype: "torch.dtype | None" = None,
    shuffle: int | None = None,
    device: "torch.device | str | None" = None,
    fill: Mapping[str, float] | None = None,
) -> Iterator[Tensors]:
    """The rows as batches; every one but the last has exactly `batch_size` rows.

    A batch may share memory with its neighbours, and never with the files: writing into one changes no
    stored byte. Memory is bounded by about three row groups, besides the system's own page cache.

    Args:
        scan: what to read; `scan.verify` holds here too.
        columns: their names; all of the scan if None. Numbers, booleans, dates (int32, days since 1970)
            and timestamps (int64, microseconds since 1970).
        dtype: what all columns are cast to; their own types if None.
        shuffle: a seed: files, row groups of a file and rows of a row group then come in random order, the
            same for the same seed. None: in the scan's order.
        device: where the tensors are to be; the CPU if None.
        fill: for columns without a value in places, what stands for it. Floats become NaN without it.

    Yields:
        One tensor a column, each of shape (rows,).

    Raises:
        UserError: a column is no number, or has nulls and no fill. Types are told at the call.
        NotFoundError: there is no such column.
        IntegrityError: a file is not what was written.
    """
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} rows is none", "give batch_size=1 or more")
    narrowed = scan if columns is None else scan.select(columns)
    for column in narrowed.schema:
        _check_type(narrowed.table, column)
    slabs = ahead(lambda: _slabs(narrowed, dict(fill or {}), dtype, shuffle))
    return _placed(_batches(slabs, batch_size), device)


def _check_type(table: str, column: pa.Field) -> None:
    kind = column.type
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_timestamp)
    if not any(check(kind) for check in known) and not pa.types.is_date32(kind):
        raise UserError(
            f"column {column.name!r} of table {table} is {kind}, which is no tensor",
            "name the columns to read without it (columns=…), or encode it as a number first",
        )


def _slabs(
    scan: Scan, fill: Mapping[str, float], dtype: "torch.dtype | None", seed: int | None
) -> Iterator[Tensors]:
    """All columns of one row group after another."""
    files = list(scan.files)
    order = Random(seed) if seed is not None else None  # noqa: S311  # an order, not a secret
    if order is not None:
        order.shuffle(files)
    for file in files:
        stored = scan.open(file)
        try:
            pages = stored.pages()
            groups = stored.row_groups()
            if order is not None:
                order.shuffle(groups)
            for group in groups:
                slab = _slab(scan, stored, pages, group, fill)
                if dtype is not None:
                    slab = {name: values.to(dtype) for name, values in slab.items()}
                yield slab if order is None else _shuffled(slab, order.getrandbits(63))
        finally:
            stored.close()


def _slab(
    scan: Scan, stored: StoredFile, pages: PlainPages | None, group: int, fill: Mapping[str, float]
) -> Tensors:
    import torch

    names = scan.wanted.columns
    views = {} if pages is None else {n: pages.column(group, stored.column_number(n)) for n in names}
    found = {name: torch.from_numpy(view) for name, view in views.items() if view is not None}
    rest = [name for name in names if name not in found]
    if rest:
        data = stored.read([group], rest)
        found |= {name: _tensor(scan.table, name, data[name], fill) for name in rest}
    return {name: found[name] for name in names}


def _tensor(table: str, name: str, values: pa.ChunkedArray, fill: Mapping[str, float]) -> "torch.Tensor":
    import torch

    array = (
        values.chunk(0)
        if values.num_chunks == 1
        else pa.concat_arrays(values.chunks or [pa.array([], values.type)])
    )
    if array.null_count:
        array = _filled(table, name, array, fill)
    if pa.types.is_boolean(array.type):
        return torch.from_numpy(array.to_numpy(zero_copy_only=False, writable=True))
    if pa.types.is_timestamp(array.type):
        array = array.view(pa.int64())
    elif pa.types.is_date32(array.type):
        array = array.view(pa.int32())
    # DLPack shares the memory and, unlike from_numpy, does not warn that Arrow calls it read-only.
    return torch.utils.dlpack.from_dlpack(array)


def _filled(table: str, name: str, array: pa.Array, fill: Mapping[str, float]) -> pa.Array:
    if name in fill:
        return pc.fill_null(array, pa.scalar(fill[name]).cast(array.type))
    if pa.types.is_floating(array.type):
        return pc.fill_null(array, pa.scalar(float("nan"), array.type))
    raise UserError(
        f"column {name!r} of table {table} is {array.type} and has {array.null_count} nulls in a row group; "
        "an integer tensor cannot say so",
        f"say what stands for them (fill={{{name!r}: 0}}), or leave their rows out (where=…)",
    )


def _shuffled(slab: Tensors, seed: int) -> Tensors:
    import torch

    rows = len(next(iter(slab.values()), ()))
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return {name: values[order] for name, values in slab.items()}


def _batches(slabs: Iterator[Tensors], size: int) -> Iterator[Tensors]:
    import torch

    parts: list[Tensors] = []
    held = 0
    for slab in slabs:
        rows = len(next(iter(slab.values()), ()))
        first = 0
        if held:
            first = min(size - held, rows)
            parts.append({name: values[:first] for name, values in slab.items()})
            held += first
            if held < size:
                continue
            yield _joined(parts)
            parts, held = [], 0
        # Whole batches of this row group are views; `split` makes them without a Python loop.
        whole = (rows - first) // size
        split = [torch.split(values[first:], size) for values in slab.values()]
        for views in islice(zip(*split, strict=True), whole):
            yield dict(zip(slab, views, strict=True))
        held = rows - first - whole * size
        if held:
            parts = [{name: values[rows - held :] for name, values in slab.items()}]
    if held:
        yield _joined(parts)


def _joined(parts: Sequence[Tensors]) -> Tensors:
    import torch

    if len(parts) == 1:
        return dict(parts[0])
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _placed(batches: Iterator[Tensors], device: Any) -> Iterator[Tensors]:
    if device is None:
        return batches
    return ({name: values.to(device) for name, values in batch.items()} for batch in batches)
