"""Plots as SVG text, drawn so that they read well in a page and in print.

Knows how to draw curves, bars and a map of days; it does not know where the numbers come from.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rayplat.train import metrics

Floats = npt.NDArray[np.float64]

MODEL, RIVAL, FAINT, ALARM = "#1f5fa8", "#c2711d", "#8a8f98", "#b3261e"
_MOST_OVER = 10  # the map is darkest where PSI is ten times over the threshold
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b9bec6",
    "axes.labelcolor": "#3c4148",
    "xtick.color": "#3c4148",
    "ytick.color": "#3c4148",
    "axes.grid": True,
    "grid.color": "#e8eaee",
    "legend.frameon": False,
    # The ids inside an SVG are made of random salt otherwise, and the same page would differ.
    "svg.hashsalt": "rayplat",
}


def draw_svg(draw: Any, width: float = 6.0, height: float = 3.2) -> str:
    """The SVG of what `draw` draws on a matplotlib Axes, in the house style; inches."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    text = out.getvalue()
    return text[text.index("<svg") :]


def loss_curve(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Loss by step or epoch.

    Args:
        curves: name -> (step, value) in order of step.
    """

    def draw(axes: Any) -> None:
        for (name, points), color in zip(sorted(curves.items()), _cycle(), strict=False):
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=color, marker="o", markersize=3, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel("log loss")
        axes.legend()

    return draw_svg(draw)


def _cycle() -> list[str]:
    return [MODEL, RIVAL, FAINT, "#3c8d5a", "#7a4f9a"]


def precision_recall(label: Floats, scores: Mapping[str, Floats]) -> str:
    """Precision over recall on the test rows, a curve a model, with the base rate as a line.

    Args:
        label: 0 or 1, shape [n].
        scores: name -> probability of the positive class, shape [n].
    """

    def draw(axes: Any) -> None:
        for (name, score), color in zip(scores.items(), _cycle(), strict=False):
            recall, precision = _precision_recall(label, score)
            axes.plot(recall, precision, color=color, label=name)
        axes.axhline(label.mean(), color=FAINT, linestyle="--", linewidth=1, label="base rate")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
        axes.legend()

    return draw_svg(draw, 5.0, 3.4)


def _precision_recall(label: Floats, score: Floats, points: int = 200) -> tuple[Floats, Floats]:
    precision, recall = metrics.precision_recall(label, score)
    keep = np.unique(np.linspace(0, len(recall) - 1, points).astype(int))
    return recall[keep], precision[keep]


def calibration(label: Floats, scores: Mapping[str, Floats], bins: int = 10) -> str:
    """The share that was positive over what was foretold, in bins of equal count.

    Args:
        label: 0 or 1, shape [n].
        scores: name -> probability of the positive class, shape [n].
        bins: into how many bins the rows fall.
    """

    def draw(axes: Any) -> None:
        top = 0.05
        for (name, score), color in zip(scores.items(), _cycle(), strict=False):
            happened, foretold, _ = metrics.reliability(label, score, bins)
            top = max([top, *foretold, *happened])
            axes.plot(foretold, happened, color=color, marker="o", markersize=4, label=name)
        axes.plot([0, top], [0, top], color=FAINT, linestyle="--", linewidth=1, label="perfect")
        axes.set(xlabel="foretold probability", ylabel="share that happened")
        axes.legend()

    return draw_svg(draw, 5.0, 3.4)


def by_day(days: Sequence[str], values: Sequence[float | None], reference: float, name: str) -> str:
    """A metric by day, with its value on the test period as a line.

    Args:
        days: the days' names.
        values: the metric of each day; None where too little was labelled.
        reference: the metric on the test period.
        name: the metric's name.
    """

    def draw(axes: Any) -> None:
        heights = [np.nan if v is None else v for v in values]
        axes.plot(days, heights, color=MODEL, marker="o", label="in service")
        axes.axhline(reference, color=FAINT, linestyle="--", linewidth=1, label="on the test period")
        axes.set_ylabel(name)
        axes.legend(loc="lower left")

    return draw_svg(draw, 9.0, 2.8)


def drift_map(days: Sequence[str], features: Sequence[str], psi: Floats, over: float) -> str:
    """The PSI of each feature by day as a map; a number stands where it is over the threshold.

    Args:
        days: the columns' names.
        features: the rows' names.
        psi: shape [features, days]; NaN where nothing was asked.
        over: the declared threshold.
    """

    def draw(axes: Any) -> None:
        top = _MOST_OVER * over
        axes.imshow(np.minimum(psi, top), cmap="Blues", vmin=0, vmax=top, aspect="auto")
        axes.set_xticks(range(len(days)), days, rotation=30, ha="right")
        axes.set_yticks(range(len(features)), features)
        axes.grid(visible=False)
        for row, column in zip(*np.nonzero(psi > over), strict=True):
            color = "white" if psi[row, column] > top / 2 else "#1d2126"
            axes.text(
                column, row, f"{psi[row, column]:.2f}", ha="center", va="center", color=color, fontsize=8
            )

    return draw_svg(draw, 9.0, 0.6 + 0.28 * len(features))


def freshness(views: Sequence[str], median_s: Sequence[float], p95_s: Sequence[float]) -> str:
    """How old the newest source event was when a value was used, by feature view.

    Args:
        views: the views' names.
        median_s: the median age in seconds.
        p95_s: the age that 95 % are under, in seconds.
    """

    def draw(axes: Any) -> None:
        place = np.arange(len(views))
        axes.barh(place, np.maximum(p95_s, 6.0) / 60, color="#c9d9ec", label="95 % are under")
        axes.barh(place, np.maximum(median_s, 6.0) / 60, height=0.4, color=MODEL, label="median")
        axes.set_yticks(place, views)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel("age of the newest source event, minutes")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axes.legend(loc="lower right")

    return draw_svg(draw, 9.0, 0.9 + 0.4 * len(views))
