"""The page of a profile: one HTML file that needs no network to be read.

Knows how the columns are laid out and their histograms drawn; it does not compute any of it.
"""

from dataclasses import dataclass
from pathlib import Path

from rayplat.data.profile.columns import ColumnProfile, Histogram
from rayplat.data.profile.profile import TableProfile
from rayplat.data.profile.words import distinct, share, value

_WIDTH, _HEIGHT, _GAP = 480.0, 110.0, 1.5


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram, in the units of the drawing, and what it tells when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    told: str


@dataclass(frozen=True, slots=True)
class Row:
    """A frequent value: its text, its count and the width of its bar in percent of the greatest one."""

    text: str
    count: str
    width: float


@dataclass(frozen=True, slots=True)
class Card:
    """One column as it is shown.

    Attributes:
        badges: what stands out, as (kind, text); `facts`: names and values.
        filled: the share of rows with a value, percent.
    """

    name: str
    type: str
    badges: tuple[tuple[str, str], ...]
    filled: float
    filled_text: str
    facts: tuple[tuple[str, str], ...]
    bars: tuple[Bar, ...]
    low: str
    high: str
    top: tuple[Row, ...]
    top_note: str


def write_page(profile: TableProfile, path: Path) -> Path:
    """Write the page.

    Returns:
        The path.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("rayplat.data.profile"), autoescape=True, undefined=StrictUndefined
    )
    page = {
        "table": profile.table,
        "tiles": _tiles(profile),
        "snapshot": profile.snapshot_id,
        "committed": value(profile.committed_at),
        "cards": [_card(column) for column in profile.columns],
        "width": _WIDTH,
        "height": _HEIGHT,
        "seconds": f"{profile.seconds:.1f}",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(templates.get_template("profile.html.j2").render(page=page))
    draft.replace(path)
    return path


def _tiles(profile: TableProfile) -> list[tuple[str, str]]:
    cells = profile.rows * len(profile.columns)
    nulls = sum(column.nulls for column in profile.columns)
    return [
        (f"{profile.rows:,}", "rows"),
        (f"{len(profile.columns)}", "columns"),
        (share(nulls, cells), "of all values are missing"),
        (f"{sum(c.nulls == 0 for c in profile.columns)}", "columns without a gap"),
        (f"{profile.files}" if profile.files else "-", "data files"),
    ]


def _card(column: ColumnProfile) -> Card:
    there = column.rows - column.nulls
    histogram = column.histogram
    edges = (value(histogram.edges[0]), value(histogram.edges[-1])) if histogram else ("", "")
    most = max((top.count for top in column.top), default=1)
    return Card(
        name=column.name,
        type=column.type,
        badges=_badges(column),
        filled=100 * there / column.rows if column.rows else 0.0,
        filled_text=f"{share(there, column.rows)} filled",
        facts=_facts(column),
        bars=_bars(histogram) if histogram else (),
        low=edges[0],
        high=edges[1],
        top=tuple(
            Row(value(t.value), share(t.count, column.rows), 100 * t.count / most) for t in column.top[:6]
        )
        if not histogram or column.distinct <= 12
        else (),
        top_note="" if column.top_exact else "estimated from a sample",
    )


def _badges(column: ColumnProfile) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    if column.hidden:
        found.append(("bad", "personal data"))
    if column.rows and column.nulls == column.rows:
        found.append(("bad", "all missing"))
    elif column.distinct == 1:
        found.append(("soft", "one value"))
    if column.distinct_exact and column.distinct == column.rows > 1:
        found.append(("good", "unique"))
    if column.nans:
        found.append(("bad", f"{column.nans:,} NaN"))
    return tuple(found)


def _facts(column: ColumnProfile) -> tuple[tuple[str, str], ...]:
    facts = [("distinct", distinct(column)), ("missing", f"{column.nulls:,}")]
    if column.least is not None:
        facts += [("min", value(column.least)), ("max", value(column.greatest))]
    if column.mean is not None:
        facts.append(("mean", value(column.mean)))
    if column.stddev is not None:
        facts.append(("std dev", value(column.stddev)))
    quantiles = column.quantiles or {}
    facts += [(n, value(quantiles[n])) for n in ("p05", "p50", "p95") if n in quantiles]
    if column.longest is not None:
        mean = f", {column.mean_length:.1f} on average" if column.mean_length is not None else ""
        facts.append(("length", f"{column.shortest:,} to {column.longest:,}{mean}"))
    return tuple(facts)


def _bars(histogram: Histogram) -> tuple[Bar, ...]:
    top = max(histogram.counts, default=0) or 1
    width = _WIDTH / len(histogram.counts)
    bars = []
    for i, count in enumerate(histogram.counts):
        # A bin with anything in it is seen, however small it is beside the greatest.
        height = max(_HEIGHT * count / top, 1.5) if count else 0.0
        told = f"{value(histogram.edges[i])} … {value(histogram.edges[i + 1])}: {count:,} rows"
        bars.append(Bar(i * width + _GAP / 2, _HEIGHT - height, max(width - _GAP, 0.5), height, told))
    return tuple(bars)
