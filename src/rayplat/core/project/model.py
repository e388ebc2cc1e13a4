"""Models, endpoints, monitors and the replay as they are declared.

Knows what is promised of a model; it does not know how it is trained, served or watched.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rayplat.core.errors import Where
from rayplat.core.project.serving import Answering, Autoscale, Logging, Multiplex, Traffic
from rayplat.core.project.space import Space
from rayplat.core.project.table import Table
from rayplat.core.project.training import Training
from rayplat.core.project.view import View

if TYPE_CHECKING:
    import polars as pl

KINDS = ("torch", "sklearn", "xgboost", "lightgbm")
"""What a model may be: a network, or an estimator of a library."""
METRICS = ("roc_auc", "pr_auc", "log_loss", "calibration_error")
"""What a binary classifier is measured by. The first two are better high, the others low."""
HIGHER_IS_BETTER = frozenset({"roc_auc", "pr_auc"})


@dataclass(frozen=True, slots=True)
class Label:
    """What is to be predicted: a boolean expression over a table whose rows come later.

    Args:
        source: the table that tells the outcome.
        value: a Polars expression over its columns; true is the positive class.
        on: the columns that join an outcome to the row that asked, in both tables.
    """

    source: Table
    value: "pl.Expr"
    on: str | tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """`on` as a tuple."""
        return (self.on,) if isinstance(self.on, str) else tuple(self.on)


@dataclass(frozen=True, slots=True)
class Gate:
    """A version becomes champion only if `metric` on the test period is at least/at most a bound.

    Args:
        metric: one of `METRICS`.
        at_least: the lowest value that passes.
        at_most: the highest value that passes.
        beats: the name of a baseline (`base_rate` or `gradient_boosting`) that must not be better.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    beats: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A declared model. Made by the decorator `Project.model`.

    Attributes:
        rows: the table whose rows ask: each row is one question at its event time.
        train_until: rows before this time train; those from here to `test_until` test.
        network: builds the torch module from the number of inputs; its output is one logit a row.
        train: the training function, called on every worker with a `TrainRun`; of an estimator once, with an
            `EstimatorRun`, and it returns the estimator.
        workers: the least and the most workers.
        seed: seeds the network, the order of the samples and the baselines.
        suspect_auc: a feature whose own area under the ROC curve is this or more is told as a likely leak.
        training: precision, memory, strategy, failures and checkpoints.
        kind: what is trained: `torch` (a network), or an estimator of `sklearn`, `xgboost` or `lightgbm`.
        space: what may be tuned; a trial's values are `run.params`.
    """

    name: str
    rows: Table
    label: Label
    features: tuple[View, ...]
    train_until: datetime
    test_until: datetime
    network: Callable[[int], Any]
    train: Callable[[Any], Any]
    workers: tuple[int, int]
    gates: tuple[Gate, ...]
    seed: int
    description: str
    where: Where = field(compare=False)
    suspect_auc: float = 0.98
    training: Training = field(default_factory=Training)
    kind: str = "torch"
    space: Space | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The full names of the inputs, in the order in which the network gets them."""
        return tuple(name for view in self.features for name in view.names)


def no_network(inputs: int) -> Any:
    """The network of a model that is an estimator of a library: there is none."""
    raise TypeError(f"an estimator over {inputs} inputs is no torch module")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A declared HTTP endpoint: it answers with the champion of `model`, or with one version of it.

    Attributes:
        multiplex: what it answers with beside its own model; None: nothing.
        stream: called with a `StreamRun`, yields the parts of an answer; None: it does not answer in parts.
    """

    name: str
    model: str
    autoscale: Autoscale
    where: Where = field(compare=False)
    version: int | None = None
    answering: Answering = field(default_factory=Answering)
    logging: Logging = field(default_factory=Logging)
    traffic: Traffic = field(default_factory=Traffic)
    stream: Callable[[Any], Any] | None = None
    multiplex: Multiplex | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """A feature has drifted when its PSI against the training set is over `psi_over`."""

    psi_over: float = 0.2


@dataclass(frozen=True, slots=True)
class Decay:
    """A model has decayed when `metric` falls this far behind its value on the test period."""

    metric: str = "roc_auc"
    drop_over: float = 0.05


@dataclass(frozen=True, slots=True)
class Monitor:
    """What is watched of an endpoint."""

    name: str
    endpoint: str
    drift: Drift
    decay: Decay
    where: Where = field(compare=False)


@dataclass(frozen=True, slots=True)
class Replay:
    """How a recorded world is told again on a laptop.

    Attributes:
        history_until: events known before this time are told before training.
        live_until: from there to here time passes in ticks: events are told, the rows of the
            endpoint's model ask over HTTP, and the labels arrive.
        tick: how much time passes at once.
    """

    history_until: datetime
    live_until: datetime
    tick: timedelta = timedelta(hours=1)
