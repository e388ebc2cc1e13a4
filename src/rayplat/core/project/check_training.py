"""What makes the declared way of training hold together.

Knows the fields, their ranges and what excludes what; it does not know what this machine can do.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rayplat.core.project.faults import Faults
from rayplat.core.project.training import (
    ON_BAD_LOSS,
    ON_OUT_OF_MEMORY,
    PRECISIONS,
    STRATEGIES,
    Keep,
    OnFailure,
    Prepare,
    Training,
)

if TYPE_CHECKING:
    from rayplat.core.project.model import Model

_Rule = tuple[str, Callable[[Any], bool], str]


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _or_none(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


def _enough(value: Any) -> bool:
    return value == 0 or _positive(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


_TRAINING: tuple[_Rule, ...] = (
    ("micro_batch", _or_none(_whole(1)), "give a number of rows, 1 or more, or None"),
    ("clip_norm", _or_none(_positive), "give a length over 0, or None"),
    ("compile", _flag, "give True or False"),
    ("cpus", _positive, "give a number over 0"),
    ("gpus", _or_none(_enough), "give 0 or more, or None for one where there is one"),
    ("standbys", _whole(0), "give a number of processes, 0 or more"),
)
_ON_FAILURE: tuple[_Rule, ...] = (
    ("skip_at_most", _whole(0), "give a number of steps, 0 or more"),
    ("smallest_micro_batch", _whole(1), "give a number of rows, 1 or more"),
    ("failed_checkpoints", _whole(0), "give a number of checkpoints, 0 or more"),
    ("hung_after_s", _positive, "give seconds, over 0"),
)
_PREPARE: tuple[_Rule, ...] = (
    ("rows", callable, "give a function of a RowBatch"),
    ("cpus", _positive, "give a number over 0"),
    ("tasks", _or_none(_whole(1)), "give a number of tasks, 1 or more, or None"),
    ("batches_a_task", _whole(1), "give a number of batches, 1 or more"),
    ("ahead_mib", _whole(1), "give MiB, 1 or more"),
)
_KEEP: tuple[_Rule, ...] = (
    ("every_steps", _or_none(_whole(1)), "give a number of steps, 1 or more, or None"),
    ("last", _whole(1), "keep 1 or more"),
    ("best", _whole(0), "keep 0 or more"),
    ("every", _whole(0), "give a number of steps, or 0 for none"),
)


def check_training(model: "Model", faults: Faults) -> None:
    """Note every fault of how a model is to be trained."""
    where, subject = model.where, f"model {model.name!r}: training"
    training: Any = model.training
    if not faults.expect(where, subject, training, Training, "an rp.Training(…)"):
        return
    faults.known(where, f"{subject}: the precision", training.precision, PRECISIONS)
    faults.known(where, f"{subject}: the strategy", training.strategy, STRATEGIES)
    _check(model, f"{subject}: ", training, _TRAINING, faults)
    if faults.expect(where, f"{subject}: on_failure", training.on_failure, OnFailure, "an rp.OnFailure(…)"):
        policy = training.on_failure
        faults.known(where, f"{subject}: on_failure.bad_loss", policy.bad_loss, ON_BAD_LOSS)
        faults.known(where, f"{subject}: on_failure.out_of_memory", policy.out_of_memory, ON_OUT_OF_MEMORY)
        _check(model, f"{subject}: on_failure.", policy, _ON_FAILURE, faults)
    if faults.expect(where, f"{subject}: checkpoints", training.checkpoints, Keep, "an rp.Keep(…)"):
        keep = training.checkpoints
        _check(model, f"{subject}: checkpoints.", keep, _KEEP, faults)
        if keep.best and not keep.metric:
            faults.add(
                where, f"{subject}: checkpoints.best is {keep.best} without a metric", "name the metric"
            )
    prepare: Any = training.prepare
    if prepare is not None and faults.expect(
        where, f"{subject}: prepare", prepare, Prepare, "an rp.Prepare(…)"
    ):
        _check(model, f"{subject}: prepare.", prepare, _PREPARE, faults)
    _check_together(model, training, faults)


def _check(model: "Model", subject: str, value: Any, rules: tuple[_Rule, ...], faults: Faults) -> None:
    for name, holds, mend in rules:
        given = getattr(value, name)
        if not holds(given):
            faults.add(model.where, f"{subject}{name} is {given!r}", mend)


def _check_together(model: "Model", training: Training, faults: Faults) -> None:
    subject = f"model {model.name!r}: training"
    if training.prepare is not None and model.kind != "torch":
        faults.add(
            model.where,
            f"{subject}: prepare is declared, and a model of kind {model.kind!r} gets all rows at once",
            "leave prepare out, and do it in train(run)",
        )
    if training.strategy == "fsdp2" and training.precision == "fp16":
        faults.add(model.where, f"{subject}: fsdp2 with fp16 would need a scaler of shards", "use bf16")
    skips = isinstance(training.on_failure, OnFailure) and training.on_failure.bad_loss == "skip"
    if training.strategy == "deepspeed" and skips:
        faults.add(
            model.where,
            f"{subject}: deepspeed takes the step itself, and on_failure.bad_loss is 'skip'",
            "use bad_loss='stop', or fsdp2",
        )
    if training.strategy == "deepspeed" and training.micro_batch is not None:
        faults.add(
            model.where,
            f"{subject}: deepspeed takes the step itself, and micro_batch is {training.micro_batch}",
            "leave micro_batch out, or use fsdp2",
        )
