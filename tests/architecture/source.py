"""What a Python file calls and reads, found in its syntax tree with imported names resolved."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_UNPICKLERS = {
    *(f"{m}.{f}" for m in ("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "ray.cloudpickle")
      for f in ("load", "loads", "Unpickler")),
    "joblib.load", "marshal.load", "marshal.loads", "shelve.open", "pandas.read_pickle",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load",
}  # fmt: skip


def python_files(*folders: str) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def unsafe_loads(text: str) -> list[tuple[int, str]]:
    """(line, call) of everything that could run code from bytes."""
    tree = ast.parse(text)
    names = _imported(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = _dotted(node.func, names)
            picky = called == "torch.load" and not _keyword(node, "weights_only")
            lax = called == "numpy.load" and _keyword(node, "allow_pickle")
            if called in _UNPICKLERS or picky or lax:
                found.append((node.lineno, called))
    return found


def environment_reads(text: str) -> list[tuple[int, str]]:
    """(line, what) of every use of the process's environment."""
    tree = ast.parse(text)
    names = _imported(tree)
    wanted = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv"}
    return [
        (node.lineno, found)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and isinstance(node.ctx, ast.Load)
        and (found := _dotted(node, names)) in wanted
    ]


def long_functions(text: str, most: int) -> Iterator[tuple[int, str, int]]:
    """(line, name, lines) of functions over `most` lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > most:
                yield node.lineno, node.name, size


def _imported(tree: ast.AST) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value, names)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def _keyword(call: ast.Call, name: str) -> bool:
    return any(
        k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords
    )
