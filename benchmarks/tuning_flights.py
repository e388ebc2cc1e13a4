"""The flights of 2013 as trials see them: the training set of examples/flights, its network really trained.

Knows how the training set is built from the recorded events, point in time as for the example's own model,
and how a setting's log loss comes about by step; it does not know which settings are tried.
"""

import math
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT

from rayplat.core.project.space import Choice, Float, Int, Space
from rayplat.core.settings import Settings
from rayplat.train.rows import Rows, rows_of
from rayplat.tuning.model_trial import for_trials

sys.path.insert(0, str(ROOT))

STEPS = 64
"""How often a trial that runs to its end reports."""
PASSES = 6
"""How often it sees each row, as in the example."""

SPACE = Space(
    lr=Float(1e-5, 1.0, log=True),
    weight_decay=Float(1e-6, 1.0, log=True),
    batch_size=Choice((32, 64, 128, 256, 512)),
    width=Int(4, 128, log=True),
    layers=Int(1, 3),
    bins=Int(0, 8),
)


def training_set() -> Rows:
    """What trials of the example's model get: its training rows, the last fifth of them to measure on."""
    import pyarrow as pa
    from examples.flights import data
    from examples.flights import project as example

    from rayplat.data.lakehouse.catalog import Lakehouse
    from rayplat.features.lake import pin
    from rayplat.features.training_rows import assemble

    told = {
        example.departures.name: data.departures(),
        example.arrivals.name: data.arrivals(),
        example.weather.name: data.weather(),
        example.planes.name: data.planes(),
    }
    (model,) = example.flights.models
    with tempfile.TemporaryDirectory() as folder:
        lake = Lakehouse(Settings.model_validate({"home": Path(folder)}))
        for name, rows in told.items():
            number = np.arange(rows.num_rows)
            whole = rows.append_column("_partition", pa.array(np.zeros_like(number, dtype=np.int32)))
            whole = whole.append_column("_offset", pa.array(number))
            lake.ensure_schema(name, whole.schema).append(whole)
        made, _ = assemble(lake, model, pin(lake, list(told)))
    return for_trials(rows_of(made, model.feature_names, ("at", *model.rows.key), "the training set"))


def sampled(rows: Rows, train: int, test: int) -> Rows:
    """Some of the rows, the same ones each time."""
    random = np.random.default_rng(2013)
    a = np.sort(random.choice(len(rows.y_train), train, replace=False))
    b = np.sort(random.choice(len(rows.y_test), test, replace=False))
    return Rows(rows.inputs, rows.x_train[a], rows.y_train[a], rows.x_test[b], rows.y_test[b])


def losses(rows: Rows, params: Mapping[str, Any], seed: int) -> Iterator[float]:
    """The log loss on the rows to measure on, by report: the example's network, optimizer and schedule.

    Each report comes after a further 1/64 of the steps; nothing is trained ahead of what is asked for.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from rayplat.train.loop import learning_rate
    from rayplat.train.statistics import mean_and_std, quantiles
    from rayplat.train.tabular import TabularNet

    x, y = torch.from_numpy(rows.x_train), torch.from_numpy(rows.y_train)
    x_test, y_test = torch.from_numpy(rows.x_test), torch.from_numpy(rows.y_test)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    net = TabularNet(x.shape[1], (params["width"],) * params["layers"], params["bins"])
    torch.random.set_rng_state(state)
    random = torch.Generator().manual_seed(seed)
    net.set_statistics(
        *mean_and_std(rows.x_train), quantiles(rows.x_train, params["bins"] or 1), float(y.mean())
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=params["lr"], weight_decay=params["weight_decay"])
    size = params["batch_size"]
    whole = len(y) // size * PASSES
    due = [round(whole * (at + 1) / STEPS) for at in range(STEPS)]
    step = reported = 0
    for _ in range(PASSES):
        for batch in torch.randperm(len(y), generator=random).split(size)[: len(y) // size]:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, whole, params["lr"])
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(net(x[batch]), y[batch]).backward()
            optimizer.step()
            step += 1
            while reported < STEPS and due[reported] <= step:
                reported += 1
                with torch.no_grad():
                    value = float(binary_cross_entropy_with_logits(net(x_test), y_test))
                yield value if math.isfinite(value) else 1e9
