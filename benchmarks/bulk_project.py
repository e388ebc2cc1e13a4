"""What benchmarks/bulk_scoring.py scores: a project, a registered version, and rows.

The project is that of the tests, whose values are known (tests/serve/bulk/rows_project.py).
"""

import sys
from typing import Any

import torch
from harness import ROOT

sys.path.insert(0, str(ROOT))
from tests.serve.bulk.rows_project import fill, make

__all__ = ["fill", "make", "network"]


def network(inputs: int) -> Any:
    """The network of the project with the weights of its version."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 1),
    )
