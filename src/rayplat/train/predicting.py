"""What a network says of rows, by all workers together.

Knows how rows are shared out and put together again; it does not know what is done with the answers.
"""

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

_AT_ONCE = 8192


def probabilities(
    network: nn.Module, x: np.ndarray[Any, Any], accelerator: Accelerator
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The network's probability for each row, in order; every worker takes part and gets all of them.

    Args:
        x: float32 [rows, inputs].
    """
    total, rank = len(x), int(accelerator.process_index)
    share = -(-total // int(accelerator.num_processes))
    mine = torch.full((share,), 0.0, device=accelerator.device)
    start = min(rank * share, total)
    was_training = network.training
    network.eval()
    # A sharded network exchanges its parts in each pass: all workers make as many, some over no rows.
    with torch.no_grad():
        for ahead in range(0, share, _AT_ONCE):
            at = min(start + ahead, total)
            end = max(at, min(at + _AT_ONCE, start + share, total))
            rows = torch.from_numpy(x[at:end]).to(accelerator.device)
            mine[at - start : end - start] = torch.sigmoid(network(rows).float())
    network.train(was_training)
    gathered: Tensor = accelerator.gather(mine)
    return gathered[:total].cpu().numpy()
