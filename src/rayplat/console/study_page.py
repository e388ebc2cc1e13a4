"""The page of a study: history, importance, parallel coordinates and the Pareto front, in one offline file.

Knows how a study is drawn; it does not know how trials are chosen or run.
"""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from rayplat.console.cost_page import Section, write_cost_page
from rayplat.console.plots import FAINT, MODEL, RIVAL, draw_svg
from rayplat.tuning.importance import encoded, importances
from rayplat.tuning.journal import COMPLETE, STOPPED, KeptStudy, KeptTrial
from rayplat.tuning.pareto import front, minimised

_BEST_SHOWN = 10
_SPREADS = 4.0  # a value further above the median than so many times from the best to it is out of the plot
_LOG_BELOW = 0.2


def write_study_page(path: Path, study: KeptStudy) -> Path:
    """Write the page; a reader never sees half of it."""
    spent = study.spent
    ended = sum(t.state != "running" for t in study.trials)
    note = f"{ended} of {spent.trials} trials ended, in {spent.seconds:,.1f} s for {spent.dollars:,.4f} USD"
    return write_cost_page(path, f"Study {study.name} of {study.model}", note, sections(study))


def sections(study: KeptStudy) -> list[Section]:
    """What the page holds; a plot that the study has too little for is left out."""
    complete = [t for t in study.trials if t.state == COMPLETE and all(map(math.isfinite, t.values))]
    if not complete:
        return [Section("History", ("No trial is complete yet.",))]
    best = front(study)
    found = [Section("History", _told(study, complete, best[0]), _history(study, complete))]
    if any(t.state == STOPPED and t.reports for t in study.trials):
        text = "Blue: complete; grey: stopped where the line ends."
        found.append(Section("Stopped early", (text,), _curves(study)))
    shares = importances(study)
    if shares:
        name, share = next(iter(shares.items()))
        found.append(
            Section("Importance", (f"{name} explains {share:.0%} of what the trials show.",), _bars(shares))
        )
    if len({n for t in complete for n in t.params}) > 1:
        found.append(Section("Parallel coordinates", ("Blue: the best tenth.",), _parallel(study, complete)))
    if len(study.objectives) > 1:
        text = f"Trials that no other one beats: {len(best)}."
        found.append(Section("Pareto front", (text,), _pareto(study, complete, best)))
    names = list(dict.fromkeys(n for t in complete for n in t.params))
    ranked = sorted(complete, key=lambda t: minimised(t.values, study.objectives))[:_BEST_SHOWN]
    rows = tuple(
        (str(t.number), *(f"{v:.6g}" for v in t.values), *(_shown(t.params.get(n)) for n in names))
        for t in ranked
    )
    columns = ("trial", *(o.name for o in study.objectives), *names)
    found.append(Section("The best trials", (), "", columns, rows))
    return found


def _told(study: KeptStudy, complete: list[KeptTrial], best: KeptTrial) -> tuple[str, ...]:
    states = Counter(t.state for t in study.trials)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    low, high = _range([t.values[0] for t in complete], higher_is_better=study.objectives[0].higher_is_better)
    beyond = sum(not low <= t.values[0] <= high for t in complete)
    tail = f" Far worse and outside of the plot: {beyond}." if beyond else ""
    return (f"The best so far: trial {best.number}. Trials: {counts}.{tail}",)


def _range(values: list[float], *, higher_is_better: bool) -> tuple[float, float]:
    """The ends of an axis on which values that are far worse than most do not crush the others."""
    best, middle = (max if higher_is_better else min)(values), float(np.median(values))
    worst = (min if higher_is_better else max)(values)
    limit = middle + _SPREADS * (middle - best)
    worst = max(worst, limit) if higher_is_better else min(worst, limit)
    margin = 0.05 * abs(worst - best) or 0.05 * abs(best) or 1.0
    return min(best, worst) - margin, max(best, worst) + margin


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _history(study: KeptStudy, complete: list[KeptTrial]) -> str:
    objective = study.objectives[0]
    values = [t.values[0] for t in complete]
    so_far = (np.maximum if objective.higher_is_better else np.minimum).accumulate(values)

    def draw(axes: Any) -> None:
        axes.scatter([t.number for t in complete], values, s=10, color=FAINT, label="trial")
        axes.step([t.number for t in complete], so_far, where="post", color=MODEL, label="best so far")
        axes.set_ylim(*_range(values, higher_is_better=objective.higher_is_better))
        axes.set_xlabel("trial")
        axes.set_ylabel(objective.name)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return draw_svg(draw, 9.0, 3.2)


def _curves(study: KeptStudy) -> str:
    """What trials reported on their way; those that were stopped lie below."""
    shown = sorted((t for t in study.trials if t.reports), key=lambda t: t.state == COMPLETE)
    objective = study.objectives[0]
    told = [v for t in shown for _, v in t.reports if math.isfinite(v)]

    def draw(axes: Any) -> None:
        for trial in shown:
            steps, values = zip(*trial.reports, strict=True)
            whole = trial.state == COMPLETE
            axes.plot(
                steps,
                values,
                marker="o",
                ms=3,
                lw=1.2,
                color=MODEL if whole else FAINT,
                alpha=0.9 if whole else 0.5,
            )
        if told:
            axes.set_ylim(*_range(told, higher_is_better=objective.higher_is_better))
        axes.set_xlabel("step")
        axes.set_ylabel(objective.name)

    return draw_svg(draw, 9.0, 3.2)


def _bars(shares: dict[str, float]) -> str:
    def draw(axes: Any) -> None:
        names = list(shares)[::-1]
        axes.set_axisbelow(True)
        axes.barh(names, [shares[n] for n in names], color=MODEL, height=0.6)
        axes.set_xlabel("share explained")

    return draw_svg(draw, 9.0, 0.9 + 0.35 * len(shares))


def _parallel(study: KeptStudy, complete: list[KeptTrial]) -> str:
    names = list(dict.fromkeys(n for t in complete for n in t.params))
    ranked = sorted(complete, key=lambda t: minimised(t.values, study.objectives), reverse=True)
    x = encoded(ranked, names)
    low, high = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
    ends = [_ends(ranked, name) for name in names]
    # Where most values lie at the foot of their range, they were drawn on a scale of logarithms.
    low_lying = np.nanmedian(x, axis=0) - low < _LOG_BELOW * (high - low)
    for at in np.flatnonzero((low > 0) & low_lying):
        x[:, at], low[at], high[at] = np.log(x[:, at]), np.log(low[at]), np.log(high[at])
    unit = (x - low) / np.where(high > low, high - low, 1.0)

    def draw(axes: Any) -> None:
        best = max(1, len(ranked) // 10)
        for at, line in enumerate(unit):
            among = at >= len(ranked) - best
            axes.plot(
                range(len(names)), line, color=MODEL if among else FAINT, alpha=0.9 if among else 0.25, lw=1.0
            )
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(axis="x", length=0, pad=16)
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_xlim(-0.2, len(names) - 0.8)
        for at, (bottom, top) in enumerate(ends):
            axes.text(at, -0.05, bottom, ha="center", va="top", fontsize=9, color="#3c4148")
            axes.text(at, 1.05, top, ha="center", va="bottom", fontsize=9, color="#3c4148")

    return draw_svg(draw, 9.0, 3.2)


def _ends(ranked: list[KeptTrial], name: str) -> tuple[str, str]:
    """What stands at the foot and at the head of a dimension's line."""
    values = [t.params[name] for t in ranked if t.params.get(name) is not None]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return _shown(min(values)), _shown(max(values))
    first, *others = dict.fromkeys(values)
    return _shown(first), _shown(others[-1]) if others else ""


def _pareto(study: KeptStudy, complete: list[KeptTrial], best: list[KeptTrial]) -> str:
    first, second = study.objectives[:2]

    def draw(axes: Any) -> None:
        axes.scatter([t.values[0] for t in complete], [t.values[1] for t in complete], s=12, color=FAINT)
        axes.scatter([t.values[0] for t in best], [t.values[1] for t in best], s=22, color=RIVAL)
        limits = [
            _range([t.values[n] for t in complete], higher_is_better=o.higher_is_better)
            for n, o in enumerate((first, second))
        ]
        axes.set(xlim=limits[0], ylim=limits[1])
        axes.set_xlabel(first.name)
        axes.set_ylabel(second.name)

    return draw_svg(draw, 9.0, 3.6)
