"""The page of costs: one HTML file that needs no network to be read.

Knows how figures, words and plots of costs come together; it does not compute any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with sentences and a plot; either may be empty."""

    title: str
    sentences: tuple[str, ...] = ()
    svg: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def write_cost_page(path: Path, title: str, note: str, sections: Sequence[Section]) -> Path:
    """Write the page; a reader never sees half of it.

    Args:
        note: what the prices are, below the title.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("rayplat.console"), autoescape=True, undefined=StrictUndefined
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    page = {"title": title, "note": note, "sections": sections}
    draft.write_text(templates.get_template("cost.html.j2").render(page=page), encoding="utf-8")
    draft.replace(path)
    return path
