"""Durable trials a second, sample efficiency and what early stopping saves, each beside its peers.

Run: .venv/bin/python benchmarks/tuning.py [--json] [--quick]

`trials_per_s`: a no-op function on two reused workers on Ray, every trial committed; random search, and TPE
in the note. Beside it Ray Tune by function and by reused actors on the same Ray, and Optuna's TPE in memory,
in one process and without Ray.

`sample_efficiency`: the default search after equal trials on Branin, Hartmann6, a conditional space and
gradient-boosted trees on real flights; by function, the trials that the best of Optuna's samplers needs over
ours to what both reach, medians over the seeds; the worst function is the claim.

`asha_speedup`: the network of examples/flights on a sample of its real training set, with a wide space.
Random search and ASHA try the same settings in the same order. The target is what random search reaches with
50 whole trials; the claim is its median cost to that by ASHA's. The whole set-up, and why it is so, stands in
benchmarks/tuning_asha.py.
"""

from harness import Claim, main
from tuning_asha import asha
from tuning_efficiency import efficiency
from tuning_throughput import throughput


def claims(quick: bool) -> list[Claim]:
    """All claims of this script."""
    if quick:
        return [throughput(400, 1, (4, 20)), efficiency(20, 3), asha(60, range(3), 4_000)]
    return [throughput(2000, 3, (10, 100)), efficiency(25, 11), asha()]


if __name__ == "__main__":
    main(claims, str(__doc__))
