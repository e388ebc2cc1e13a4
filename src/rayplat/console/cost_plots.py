"""Plots of costs as SVG text: by day and owner, the month ahead, and savings.

Knows how money is drawn; it does not know where the numbers come from. Amounts are dollars.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rayplat.console.plots import ALARM, FAINT, MODEL, RIVAL, draw_svg

_COLORS = [MODEL, RIVAL, "#3c8d5a", "#7a4f9a", "#b08a1e", "#4f8f9a", "#9a4f6a"]
_IDLE = "#d4d7dc"
_MOST = len(_COLORS)


def stacked(stretches: Sequence[str], amounts: Mapping[str, Sequence[float]], title: str = "") -> str:
    """Bars by stretch of time, stacked by name; idle is grey, and what is small goes together.

    Args:
        stretches: the bars' names.
        amounts: name -> dollars in each stretch.
    """
    idle = amounts.get("(idle)")
    named = sorted((n for n in amounts if n != "(idle)"), key=lambda n: -sum(amounts[n]))
    shown = {n: list(amounts[n]) for n in named[:_MOST]}
    rest = [sum(values) for values in zip(*(amounts[n] for n in named[_MOST:]), strict=True)]

    def draw(axes: Any) -> None:
        base = [0.0] * len(stretches)
        layers = list(zip(shown.items(), _COLORS, strict=False))
        if rest:
            layers.append(((f"{len(named) - _MOST} others", rest), FAINT))
        if idle is not None:
            layers.append((("idle", list(idle)), _IDLE))
        for (name, values), color in layers:
            axes.bar(range(len(stretches)), values, bottom=base, color=color, label=name, width=0.75)
            base = [b + v for b, v in zip(base, values, strict=True)]
        step = -(-len(stretches) // 9)  # more names would run into each other
        axes.set_xticks(range(0, len(stretches), step), stretches[::step])
        axes.yaxis.set_major_formatter(_dollars)
        axes.grid(visible=False, axis="x")
        axes.set_axisbelow(True)
        axes.set_title(title, loc="left", fontsize=10, color="#3c4148")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return draw_svg(draw, 9.0, 3.2)


def ahead(
    days: Sequence[float],
    today: int,
    length: int,
    end: tuple[float | None, float, float | None, float | None],
    limits: Mapping[str, float],
) -> str:
    """The month's money so far, and where it goes.

    Args:
        days: dollars of each day of the month until now; the last one is today's.
        today: the day of the month.
        length: days of the month.
        end: at the month's end: by trend, by what runs now, and the 80 % interval; None where unknown.
        limits: monthly budgets by name, as lines.
    """
    trend, running, low, high = end

    def draw(axes: Any) -> None:
        total, path = 0.0, [0.0]
        for amount in days:
            total += amount
            path.append(total)
        places = [*range(today), float(today)] if len(path) == today + 1 else list(range(len(path)))
        axes.plot(places, path, color=MODEL, label="spent")
        if trend is not None:
            axes.plot([places[-1], length], [total, trend], color=MODEL, linestyle="--", label="by trend")
        axes.plot(
            [places[-1], length], [total, running], color=RIVAL, linestyle=":", label="by what runs now"
        )
        if low is not None and high is not None:
            axes.fill_between([places[-1], length], [total, low], [total, high], color="#c9d9ec", alpha=0.6)
        for name, limit in limits.items():
            axes.axhline(limit, color=ALARM, linewidth=1)
            axes.text(0.2, limit, name, color=ALARM, va="bottom", fontsize=8)
        axes.set(xlabel="day of the month", xlim=(0, length), ylim=(0, None))
        axes.yaxis.set_major_formatter(_dollars)
        axes.legend(loc="lower right")

    return draw_svg(draw, 9.0, 3.0)


def waterfall(fixed: float, steps: Mapping[str, float], paid: float) -> str:
    """From the fixed alternative to what was paid, a bar for each saving."""

    def draw(axes: Any) -> None:
        axes.barh(0, fixed, color=FAINT)
        level = fixed
        for place, amount in enumerate(steps.values(), 1):
            axes.barh(place, -amount, left=level, color="#3c8d5a" if amount >= 0 else ALARM)
            level -= amount
        axes.barh(len(steps) + 1, paid, color=MODEL)
        values = [fixed, *[-amount for amount in steps.values()], paid]
        axes.set_yticks(range(len(values)), ["always at peak, on demand", *steps, "paid"])
        for place, value in enumerate(values):
            axes.text(fixed * 1.01, place, _dollars(value, 0), va="center", fontsize=9, color="#3c4148")
        axes.invert_yaxis()
        axes.set_xlim(0, fixed * 1.15 or 1)
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
        axes.xaxis.set_major_formatter(_dollars)

    return draw_svg(draw, 9.0, 2.4)


def _dollars(value: float, _: object) -> str:
    sign = "-" if value < 0 else ""
    size = abs(value)
    return f"{sign}${size:,.0f}" if size >= 10 or not size else f"{sign}${size:,.2f}"
