"""The random numbers of a step, as a function of where in the run it is.

Knows how one seed is made of several numbers; it does not know what draws from it.
"""

import torch


def seed_step(*numbers: int) -> None:
    """Begin torch's random numbers anew, from several numbers.

    `torch.manual_seed` would do the same and look for every other kind of device, which takes half a
    millisecond each time.
    """
    seed = mixed(*numbers)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(seed)


def mixed(*numbers: int) -> int:
    """One seed of several, well mixed: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014) over each."""
    mixed = 0
    for number in numbers:
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 1
