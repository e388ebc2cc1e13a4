import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from rayplat.core.settings import Settings
from rayplat.train.input.order import SampleOrder
from rayplat.train.input.preprocessed import Preparation, prepared_batches

pytestmark = [
    pytest.mark.timeout(180),
    # Ray Data's own context sets options that it has deprecated itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore:`use_push_based_shuffle`:DeprecationWarning"),
]
ROWS = 103


def read(rows: np.ndarray) -> pa.Table:
    return pa.table({"row": rows, "a": rows * 2})


def prepare(table: pa.Table) -> pa.Table:
    return table.append_column("b", pc.add(table["a"], 1))


def test_every_sample_comes_once_over_resizes_and_resumes(ray_session: Settings) -> None:
    order = SampleOrder(ROWS, 10, seed=2)
    preparation = Preparation(read, prepare, batches_a_task=3)
    seen: list[int] = []
    at = 0
    for world, until in ((2, 4), (3, 6), (1, order.batches)):  # resized, and left in the middle of a portion
        for rank in range(world):
            batches = prepared_batches(preparation, order, epoch=5, first=at, rank=rank, world=world)
            for batch in range(at, until):
                table = next(batches)
                due = order.share(order.permutation(5), batch, rank, world)
                assert table["row"].to_pylist() == due.tolist()
                assert table["b"].to_pylist() == (due * 2 + 1).tolist()
                seen += due.tolist()
            batches.close()
        at = until
    assert sorted(seen) == list(range(ROWS))
