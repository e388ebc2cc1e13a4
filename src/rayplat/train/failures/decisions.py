"""What is done about a failure within a run: pure decisions over the declared policy.

Knows the policy and counts; it does not know torch, files or who trains.
"""

from dataclasses import dataclass

from rayplat.core.project.training import OnFailure


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave the parameters as they are and go on with the next step."""


@dataclass(frozen=True, slots=True)
class Halve:
    """Take the same step again with so many rows at once."""

    micro_batch: int


@dataclass(frozen=True, slots=True)
class GoOn:
    """Train on."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the run: why, and what mends it."""

    reason: str
    mend: str


def on_bad_loss(policy: OnFailure, skipped: int) -> Skip | Stop:
    """What to do about a step whose loss or gradient is not finite.

    Args:
        policy: as declared.
        skipped: how many steps of the run were skipped before.
    """
    if policy.bad_loss == "skip":
        if skipped < policy.skip_at_most:
            return Skip()
        return Stop(
            f"{skipped} steps were skipped before, and skip_at_most is {policy.skip_at_most}",
            "look at the kept batches; lower the learning rate, set clip_norm, or raise skip_at_most",
        )
    return Stop(
        "on_failure.bad_loss is stop",
        "look at the kept batch for infinite values, lower lr or set clip_norm; or skip such steps with "
        "rp.OnFailure(bad_loss='skip')",
    )


def on_out_of_memory(policy: OnFailure, rows: int) -> Halve | Stop:
    """What to do about a step that did not fit into memory.

    Args:
        policy: as declared.
        rows: how many rows were taken at once.
    """
    if policy.out_of_memory != "halve":
        return Stop("on_failure.out_of_memory is stop", "set micro_batch, or let it be halved")
    half = rows // 2
    if half < policy.smallest_micro_batch:
        return Stop(
            f"{rows} rows at once do not fit, and smallest_micro_batch is {policy.smallest_micro_batch}",
            "give the workers more memory, make the network smaller, or shard it with strategy='fsdp2'",
        )
    return Halve(half)


def on_failed_checkpoint(policy: OnFailure, in_a_row: int) -> GoOn | Stop:
    """What to do when a checkpoint could not be written.

    Args:
        policy: as declared.
        in_a_row: how many failed since the last that was written, this one included.
    """
    if in_a_row <= policy.failed_checkpoints:
        return GoOn()
    return Stop(
        f"{in_a_row} checkpoints in a row could not be written, and failed_checkpoints is "
        f"{policy.failed_checkpoints}",
        "free space in the warehouse and run it again: it goes on from the newest checkpoint",
    )
