"""A network for tables: numeric inputs with missing values, one logit a row.

Knows how raw features become what a small multilayer perceptron learns well from; it does not know
how it is trained (`loop`). What it learns about the inputs' scale is kept in buffers, so the artifact
is whole: serving feeds the same raw features.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TabularNet(nn.Module):
    """A multilayer perceptron over standardised values, quantile bins and missing indicators.

    Each input gives: its standardised value (0 where missing, held within 5 standard deviations), one
    where it is missing, and a piecewise linear encoding: how far it has passed through each of
    `bins` quantile bins, 0 to 1 (Gorishniy et al., "On Embeddings for Numerical Features in Tabular
    Deep Learning", NeurIPS 2022, section 3.2). The encoding lets the first layer bend at quantiles, as
    a tree splits there.

    Args:
        inputs: how many inputs a row has.
        hidden: the widths of the hidden layers.
        bins: how many quantile bins an input gets; 0 for none.
    """

    mean: Tensor
    scale: Tensor
    low: Tensor
    width: Tensor

    def __init__(self, inputs: int, hidden: Sequence[int] = (128, 64), bins: int = 8) -> None:
        super().__init__()
        self.bins = bins
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.register_buffer("low", torch.zeros(inputs, bins))
        self.register_buffer("width", torch.ones(inputs, bins))
        layers: list[nn.Module] = []
        size = inputs * (2 + bins)
        for units in hidden:
            layers += [nn.Linear(size, units), nn.ReLU()]
            size = units
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(size, 1)

    def set_statistics(self, mean: Tensor, std: Tensor, quantiles: Tensor, positive_rate: float) -> None:
        """Learn the inputs' scale from the training rows, before the first step.

        Args:
            mean, std: of each input, missing values left out, float32 [inputs].
            quantiles: the edges of the quantile bins, float32 [inputs, bins + 1].
            positive_rate: the share of positives; the first prediction is that rate for every row.
        """
        with torch.no_grad():
            self.mean.copy_(torch.nan_to_num(mean))
            known = torch.isfinite(std) & (std > 0)
            self.scale.copy_(torch.where(known, std, torch.ones_like(std)))
            if self.bins:
                edges = torch.nan_to_num(quantiles)
                self.low.copy_(edges[:, :-1])
                self.width.copy_(edges[:, 1:] - edges[:, :-1])
            rate = min(max(positive_rate, 1e-4), 1 - 1e-4)
            self.head.bias.fill_(math.log(rate / (1 - rate)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float32 [rows], of raw inputs, float32 [rows, inputs] with NaN where missing."""
        missing = torch.isnan(x)
        value = torch.where(missing, self.mean, x)
        standard = ((value - self.mean) / self.scale).clamp(-5.0, 5.0)
        parts = [standard, missing.to(x.dtype)]
        if self.bins:
            # A bin of no width (a value that is many quantiles at once) becomes a step.
            passed = (value.unsqueeze(-1) - self.low) / self.width.clamp_min(1e-12)
            parts.append(passed.clamp(0.0, 1.0).flatten(1))
        logits: Tensor = self.head(self.body(torch.cat(parts, dim=1))).squeeze(-1)
        return logits
