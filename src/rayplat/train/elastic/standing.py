"""Where a thread that trains stands: whether it waits for other workers, or does something of its own.

Knows how that shows in a stack; it does not know who asks. Of a group that makes no step, the worker that
does not wait for the others is the one that they wait for.
"""

import sys

ITS_OWN, BACKWARD, WAITS = 0, 1, 2
"""Something of its own (it may be hung in it); a backward pass, in which gradients are exchanged; a wait for
others."""
_WAITS = ("torch/distributed/", "torch/nn/parallel/distributed.py", "rayplat/train/loss.py")
_BACKWARD = ("torch/autograd/",)
_DEEP = 4


def standing(thread: int) -> int:
    """Where a thread stands, by its identifier; one that has ended does something of its own."""
    frame = sys._current_frames().get(thread)
    for _ in range(_DEEP):
        if frame is None:
            break
        file = frame.f_code.co_filename.replace("\\", "/")
        if any(part in file for part in _WAITS):
            return WAITS
        if any(part in file for part in _BACKWARD):
            return BACKWARD
        frame = frame.f_back
    return ITS_OWN
