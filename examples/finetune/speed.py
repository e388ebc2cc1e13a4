"""How fast a transformer trains: tokens a second, and how much of the device that uses.

Knows the arithmetic of a step; it does not know the project. MFU is the model's arithmetic over the device's
peak (Chowdhery et al., "PaLM", 2022, appendix B). Peak is here what a large product of matrices reaches on
the same device in the same precision: the maker's figure is not known to every device.
"""

import time

import torch

_SIZE, _TURNS = 1024, 5


def flops_a_token(parameters: int, trained: int, layers: int, width: int, tokens: int) -> float:
    """Floating-point operations of a step for each token.

    Each parameter multiplies once forward and once backward for the activations (2 operations each), and
    once more for its own gradient where it is trained; attention is 12 * layers * width * tokens.

    Args:
        parameters: of the layers, without embeddings.
        trained: those among them that are trained: with LoRA, the adapters.
        layers, width, tokens: of the transformer, and how long a sequence is.
    """
    return 4.0 * parameters + 2.0 * trained + 12.0 * layers * width * tokens


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large product of matrices."""
    size = _SIZE * (8 if device.type == "cuda" else 1)
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(_TURNS):
        _wait(device)
        begun = time.perf_counter()
        a @ a
        _wait(device)
        best = min(best, time.perf_counter() - begun)
    return 2.0 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
