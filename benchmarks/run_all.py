"""Run every benchmark and write docs/performance.md.

Run: make bench, or .venv/bin/python benchmarks/run_all.py --only ingest commits

A script is a file beside this one that holds a `measure` function; each runs in a process of its own.
"""

import argparse
import ast
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from harness import ROOT, machine

HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "performance.md"


def scripts(folder: Path) -> list[Path]:
    """The benchmark scripts of a folder, by name: those that define `measure`."""
    return [path for path in sorted(folder.glob("*.py")) if "measure" in _functions(path)]


def _functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def page(tables: dict[str, str]) -> str:
    """The whole page, from each script's name to its table (or to what went wrong)."""
    about = machine()
    head = [
        "# Performance",
        "",
        "Written by `make bench`. A figure is the median of its runs, with the range in brackets; rayplat",
        "and its peers are measured side by side in one run. Over 1 in *times better* means that rayplat is",
        "better. The limit is the same work with nothing in between, where there is such a thing.",
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d}: {', '.join(f'{k} {v}' for k, v in about.items())}.",
        "",
    ]
    parts = [f"## {name}\n\n{text}\n" for name, text in tables.items()]
    return "\n".join([*head, *parts])


def sections(text: str) -> dict[str, str]:
    """The tables of a page, by the name of their script."""
    parts = text.split("\n## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="pass --quick on; the page is only printed")
    parser.add_argument("--only", nargs="+", metavar="SCRIPT", help="run these; the others' tables stay")
    options = parser.parse_args()
    chosen = [script for script in scripts(HERE) if not options.only or script.stem in options.only]
    tables = sections(PAGE.read_text()) if options.only and PAGE.exists() else {}
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for script in chosen:
            print(f"== {script.stem}", flush=True)
            out = Path(folder) / script.stem
            argv = [sys.executable, script, "--table", out, *(["--quick"] if options.quick else [])]
            if subprocess.run(argv, cwd=ROOT, check=False).returncode == 0:
                tables[script.stem] = out.read_text()
            else:
                failed.append(script.stem)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; {PAGE} is left as it was")
    if not options.quick:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(dict(sorted(tables.items()))))
        print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
