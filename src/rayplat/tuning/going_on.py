"""What a trial of a network goes on from: its own checkpoint, or that of the trial it is a copy of.

Knows how another trial's state is taken over; it does not know how a trial trains (`model_trial`,
`group_trial`).
"""

from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.worker import checkpoints_of
from rayplat.tuning.trial import Trial

Progress = tuple[int, int, dict[str, list[tuple[int, float]]]]
"""The last epoch, how many there will be, and the curves so far."""


def take_up(trial: Trial, checkpoints: CheckpointFolder) -> Progress | None:
    """What is known of the trial by its own checkpoints; None where it has none.

    Then it takes over the weights and the optimizer's state of the trial that it goes on from. What the
    optimizer keeps by name (its learning rate, its weight decay) takes the trial's own values.
    """
    known = checkpoints.progress()
    if known is not None:
        return known
    found = checkpoints_of(trial.origin).latest() if trial.origin else None
    if found is None:
        return None
    if found.optimizer is not None:
        for group in found.optimizer["param_groups"]:
            group.update({name: value for name, value in trial.params.items() if name in group})
    checkpoints.publish(found)
    return None
