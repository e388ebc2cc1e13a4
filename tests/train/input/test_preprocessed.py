import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from rayplat.core.errors import BugError
from rayplat.core.project.training import Prepare
from rayplat.core.settings import Settings
from rayplat.train.input.matrix import RowMatrix
from rayplat.train.input.order import SampleOrder
from rayplat.train.input.prepared import PreparedInput, RowBatch, matrices
from rayplat.train.input.preprocessed import Preparation, _cut, prepared_batches
from rayplat.train.input.stream import Streams
from tests.train.synthetic import make_rows

pytestmark = [
    pytest.mark.timeout(180),
    # Ray Data's own context sets options that it has deprecated itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    # There is no other way yet to keep tasks from being spread over the nodes with GPUs.
    pytest.mark.filterwarnings("ignore:`ray_remote_args` is deprecated:DeprecationWarning"),
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


def noisy(rows: RowBatch) -> tuple:
    return rows.x + rows.draws.normal(rows.x.shape[1]), rows.y


PROJECT = """
import polars as pl

import rayplat as rp
from tests.train.input.test_preprocessed import noisy
from tests.train.projects.recorded import network, outcomes, own, recorded, visits


@recorded.model(
    "noisy",
    rows=visits,
    label=rp.Label(outcomes, pl.col("clicked"), on="visit"),
    features=[own],
    train_until="2013-02-01",
    test_until="2013-03-01",
    network=network,
    training=rp.Training(prepare=rp.Prepare(noisy)),
)
def train(run):
    return None
"""


def test_what_tasks_prepare_over_two_epochs_is_what_a_worker_prepares_itself(
    ray_session: Settings, tmp_path
) -> None:
    file = tmp_path / "noisy_project.py"
    file.write_text(PROJECT)
    rows = make_rows(ROWS)
    order = SampleOrder(ROWS, 10, seed=2)
    prepare = Prepare(noisy, batches_a_task=4, tasks=2, ahead_mib=64)
    streams = Streams(str(file), "noisy", rows, prepare, seed=2)
    at, world = 2 * order.batches + 7, 2
    for rank in range(world):
        stream = streams.begin(order, at, rank, world)
        assert stream is not None
        assert streams.begin(order, at, rank, world) is None  # one at a time
        here = PreparedInput(RowMatrix(rows.x_train, rows.y_train), noisy, rows.inputs, order)
        for index in range(at, 4 * order.batches):
            assert stream.covers(index)
            table = None
            while table is None:
                table = stream.get(index, 1.0)
            epoch, batch = order.place(index)
            x, y = here.take(epoch, batch, order.share(order.permutation(epoch), batch, rank, world))
            np.testing.assert_array_equal(matrices(table)[0], x.numpy())
            np.testing.assert_array_equal(matrices(table)[1], y.numpy())
        stream.close()
        stream._thread.join(30)
        assert not stream.alive


def test_tables_out_of_their_order_or_with_other_rows_are_refused() -> None:
    def table(*batches: int) -> pa.Table:
        return pa.table({"a": [0] * len(batches), "rayplat_batch": list(batches)})

    def cut(*tables: pa.Table) -> list[int]:
        due = {4: 2, 5: 0, 6: 1, 7: 0}
        return [one.num_rows for one in _cut(tables, 4, 8, due.__getitem__)]

    assert cut(table(4, 4), table(6)) == [2, 0, 1, 0]
    for wrong in ([table(6), table(4, 4)], [table(4), table(6)], [table(4, 4), table(5), table(6)]):
        with pytest.raises(BugError):
            cut(*wrong)
