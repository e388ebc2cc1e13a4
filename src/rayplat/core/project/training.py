"""How a model is to be trained, as it is declared: numbers, memory, copies, failures and checkpoints.

Knows what can be asked for and its defaults; it does not know what this machine can do (`train.layout`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PRECISIONS = ("auto", "no", "bf16", "fp16")
STRATEGIES = ("ddp", "fsdp2", "deepspeed")
ON_BAD_LOSS = ("stop", "skip")
ON_OUT_OF_MEMORY = ("halve", "stop")


@dataclass(frozen=True, slots=True)
class OnFailure:
    """What is done when something goes wrong within a run.

    Args:
        bad_loss: of a step whose loss or gradient is not finite: `stop` the run, or `skip` the step.
        skip_at_most: how many steps of a run may be skipped; one more stops it.
        out_of_memory: `halve` the micro-batch and take the step again, or `stop`.
        smallest_micro_batch: it is not halved below this.
        failed_checkpoints: so many in a row may fail (the disk is full) before the run stops.
        hung_after_s: a group that makes no step for so long has a hung member, which is replaced.
    """

    bad_loss: str = "stop"
    skip_at_most: int = 10
    out_of_memory: str = "halve"
    smallest_micro_batch: int = 1
    failed_checkpoints: int = 3
    hung_after_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Keep:
    """When checkpoints are written beside the one after each epoch, and which are kept.

    Args:
        every_steps: write one after so many steps, too; None for no further ones.
        last: how many of the newest are kept.
        best: how many of the best by `metric` are kept besides.
        metric: one that the loop gives to `checkpoint`, such as `log_loss`; needed where `best` is not 0.
        higher_is_better: of the metric.
        every: the first one at or after each multiple of so many steps is kept, too; 0 for none.
    """

    every_steps: int | None = None
    last: int = 2
    best: int = 0
    metric: str = ""
    higher_is_better: bool = False
    every: int = 0


@dataclass(frozen=True, slots=True)
class Prepare:
    """What is done to training rows before a step gets them: by other nodes, ahead of the workers.

    It sees training rows alone. What an answer must see too, such as a scaling, belongs into a feature view.

    Args:
        rows: called with a `RowBatch` (x, y, the inputs' names, random numbers of each row); gives x and y of
            the same shapes, each row of its own row alone: how many workers there are decides which rows
            come together.
        cpus: of each task on the cluster.
        tasks: how many run at once for a worker, at most; None: as many as there is room for.
        batches_a_task: consecutive batches in one task.
        ahead_mib: what is prepared and not yet taken by a worker fills no more of the object store than this.
    """

    rows: Callable[[Any], tuple[Any, Any]]
    cpus: float = 1.0
    tasks: int | None = None
    batches_a_task: int = 16
    ahead_mib: int = 256


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is trained.

    Args:
        precision: `auto` (bf16 on a GPU that has it, else float32), `no` (float32), `bf16` or `fp16`.
        micro_batch: the most rows that a worker takes at once; its slice of a global batch is cut into so
            many micro-batches, whose gradients add up to the same global batch. None: the slice whole.
        clip_norm: gradients longer than this are shortened to it (their 2-norm over all parameters).
        compile: whether the network is compiled (`torch.compile`).
        strategy: `ddp` (each worker has the whole network), `fsdp2` (each has a shard), `deepspeed`.
        cpus: of each worker.
        gpus: of each worker; None: one where the cluster has enough of them.
        standbys: processes that are kept ready to take the place of a lost worker.
        on_failure: what is done when something goes wrong.
        checkpoints: when they are written, and which are kept.
        prepare: what is done to training rows before a step gets them, on the CPUs of other nodes.
    """

    precision: str = "auto"
    micro_batch: int | None = None
    clip_norm: float | None = None
    compile: bool = False
    strategy: str = "ddp"
    cpus: float = 1.0
    gpus: float | None = None
    standbys: int = 0
    on_failure: OnFailure = field(default_factory=OnFailure)
    checkpoints: Keep = field(default_factory=Keep)
    prepare: Prepare | None = None

    def decides(self) -> dict[str, object]:
        """What of it can change the weights by more than rounding, where it is not the default."""
        plain = Training()
        names = ("precision", "clip_norm", "compile", "strategy")
        told: dict[str, object] = {
            n: getattr(self, n) for n in names if getattr(self, n) != getattr(plain, n)
        }
        if self.on_failure.bad_loss != plain.on_failure.bad_loss:
            told["bad_loss"] = self.on_failure.bad_loss
        return told
