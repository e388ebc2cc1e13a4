"""The logs of what a platform runs on this machine, by component and by node.

Knows which files a component or a simulated node writes; it does not know what stands in them.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rayplat.cluster.head import ray_folder, recorded_head
from rayplat.cluster.local.node_records import read_nodes
from rayplat.core.errors import NotFoundError
from rayplat.core.settings import Settings

COMPONENTS = {
    "gcs": ("gcs_server",),
    "autoscaler": ("monitor",),
    "dashboard": ("dashboard",),
    "raylet": ("raylet",),
    "agent": ("dashboard_agent", "runtime_env_agent"),
    "jobs": ("job-driver",),
    "serve": ("serve",),
}
_POLL_S = 0.3


def log_files(settings: Settings) -> dict[str, list[Path]]:
    """The files by the name of what writes them: Ray's components, the platform's own processes, nodes."""
    found: dict[str, list[Path]] = {}
    head = recorded_head(settings)
    folder = Path(head.session) / "logs" if head else None
    if folder is not None and folder.is_dir():
        everything = sorted(path for path in folder.rglob("*") if path.is_file())
        for name, stems in COMPONENTS.items():
            paths = [p for p in everything if str(p.relative_to(folder)).startswith(stems)]
            found[name] = [p for p in paths if p.stat().st_size]
        for node_id, node in read_nodes(ray_folder(settings) / "nodes").items():
            found[node_id] = [folder / name for name in node.logs if (folder / name).exists()]
    for path in sorted(settings.run_dir.glob("*.log")):
        found[path.stem] = [path]
    return {name: paths for name, paths in found.items() if paths}


def chosen(files: dict[str, list[Path]], name: str) -> list[Path]:
    """The files of a component, or of the node whose id begins so.

    Raises:
        NotFoundError: there is none, or several nodes' ids begin so.
    """
    if name in files:
        return files[name]
    nodes = [key for key in files if name and key.startswith(name)]
    if len(nodes) == 1:
        return files[nodes[0]]
    what = f"{len(nodes)} of them begin with {name!r}" if nodes else f"nothing is named {name!r}"
    raise NotFoundError(f"no log: {what}", f"there is: {', '.join(short(key) for key in files) or 'none'}")


def short(name: str) -> str:
    """A name as people read it: of a node's id its first twelve digits."""
    return name if len(name) < 40 else name[:12]


def tail(paths: Sequence[Path], lines: int) -> Iterator[str]:
    """The last lines of each file, under its name where there are several."""
    for path in paths:
        if len(paths) > 1:
            yield f"==> {path.name} <=="
        yield from path.read_text(errors="replace").splitlines()[-lines:]


def follow(paths: Sequence[Path], lines: int) -> Iterator[str]:
    """The last lines of each file, and then each line as it is written, until the caller stops asking."""
    yield from tail(paths, lines)
    places = {path: path.stat().st_size for path in paths}
    while True:
        for path, at in places.items():
            if path.exists() and path.stat().st_size > at:
                with path.open("rb") as file:
                    file.seek(at)
                    fresh = file.read()
                whole = fresh[: fresh.rfind(b"\n") + 1]
                places[path] = at + len(whole)
                yield from whole.decode("utf-8", "replace").splitlines()
        time.sleep(_POLL_S)
