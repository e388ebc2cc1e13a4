"""Durable trials a second, sample efficiency and what early stopping saves, each beside its peers.

Run: .venv/bin/python benchmarks/tuning.py [--json] [--quick]

`trials_per_s`: a no-op function on two reused workers on Ray, every trial committed; random search, and TPE
in the note. Beside it Ray Tune by function and by reused actors on the same Ray, and Optuna's TPE in memory,
in one process and without Ray.

`sample_efficiency`: the default search after equal trials on Branin, Hartmann6 and gradient-boosted trees on
real flights; by function, the trials that the best of Optuna's samplers needs over ours to what both reach,
medians over the seeds; the worst function is the claim.

`asha_speedup`: the network of examples/flights on a sample of its real training set, with a wide space. Time
is the steps spent over all trials until any of them reports a log loss of at most the target; a setting that
was stopped goes on where it was. Random search and the promotion form of ASHA draw settings without end from
one generator, a seed giving both the same ones in the same order. The target is fixed before, from settings
of a generator apart from all of these: the loss that the best 5 % of them reach within all their steps.
Median of the seeds by median of the seeds. The note holds ASHA with TPE in place of random draws, too.
"""

from harness import Claim, main
from tuning_asha import asha
from tuning_efficiency import efficiency
from tuning_throughput import throughput


def claims(quick: bool) -> list[Claim]:
    """All claims of this script."""
    if quick:
        return [throughput(400, 1, (4, 20)), efficiency(20, 3), asha(sample=20, seeds=3, rows=6_000)]
    return [throughput(2000, 3, (10, 100)), efficiency(25, 11), asha(sample=60, seeds=10, rows=36_000)]


if __name__ == "__main__":
    main(claims, str(__doc__))
