"""Lines of English from the documentation of two installed packages, as bytes.

Knows where the text is and how a line becomes tokens; it does not know the project.
"""

import ast
from datetime import UTC, datetime, timedelta
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

PACKAGES = ("numpy", "torch")
TOKENS = 48
TOKEN_COLUMNS = tuple(f"t{n:02d}" for n in range(TOKENS))
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
EVERY = timedelta(minutes=1)
_A_PACKAGE = 2000
_FILES = 400


def lines_of(package: str, most: int = _A_PACKAGE) -> list[str]:
    """Lines of a package's docstrings that are long enough to tell something, in an order fixed by a seed."""
    found = distribution(package)
    sources = sorted(str(f) for f in found.files or () if f.suffix == ".py" and f.parts[0] == package)
    texts = []
    for name in _chosen(sources, _FILES):
        path = Path(str(found.locate_file(name)))
        texts += _docstrings(path.read_text(encoding="utf-8"))
    lines = sorted({line.strip() for text in texts for line in text.splitlines() if len(line.strip()) >= 40})
    return _chosen(lines, most)


def _chosen(names: list[str], most: int) -> list[str]:
    """Some of them, in an order that is always the same."""
    order = np.random.default_rng(0).permutation(len(names))
    return [names[at] for at in order[:most]]


def _docstrings(source: str) -> list[str]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    try:
        tree = ast.parse(source)
    except SyntaxError:  # written for another Python than this one
        return []
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    return [text for node in nodes if (text := ast.get_docstring(node))]


def told() -> pl.DataFrame:
    """A row a line: its number, when it was read, its tokens (bytes + 1, 0 past its end), whose it is."""
    pairs = [(line, package) for package in PACKAGES for line in lines_of(package)]
    pairs = [pairs[at] for at in np.random.default_rng(2).permutation(len(pairs))]
    rows = [
        {"line": n, "at": BEGIN + n * EVERY, "torch": package == "torch"}
        | dict(zip(TOKEN_COLUMNS, tokens_of(line), strict=True))
        for n, (line, package) in enumerate(pairs)
    ]
    schema = {"line": pl.Int64, "at": pl.Datetime("us", "UTC"), "torch": pl.Boolean}
    return pl.DataFrame(rows, schema=schema | dict.fromkeys(TOKEN_COLUMNS, pl.Int64))


def tokens_of(line: str) -> list[int]:
    """The first bytes of a line, each plus 1, and 0 past its end."""
    content = [byte + 1 for byte in line.encode()[:TOKENS]]
    return content + [0] * (TOKENS - len(content))


def lines() -> pa.Table:
    """The lines as they are read."""
    return told().drop("torch").to_arrow()


def origins() -> pa.Table:
    """Whose line it was, known a minute later."""
    return told().select("line", told_at=pl.col("at") + EVERY, torch=pl.col("torch")).to_arrow()
