"""The paths of the server, and who answers at each.

Knows paths and methods; it does not know how an answer comes about.

    POST /get-online-features       Feast's question and answer, any views
    GET  /v1/features               the views
    GET  /v1/features/{view}        a view's entity and features
    POST /v1/features/{view}        {"keys": [...]}: one view, JSON or binary by `Accept`
    GET  /healthz, /metrics
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

import orjson

from rayplat.core.project.project import Project
from rayplat.core.project.view import FeatureView, View
from rayplat.features.online.store import OnlineStore
from rayplat.features.server.compact import CompactView
from rayplat.features.server.connection import Handler, Reply
from rayplat.features.server.faults import RefusedError
from rayplat.features.server.feast import FeastForm
from rayplat.features.server.general import General
from rayplat.features.server.held import Fast
from rayplat.features.server.selection import Selections
from rayplat.features.server.wire import Head

if TYPE_CHECKING:
    from rayplat.features.parity.log import FeatureLog

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_VIEWS = "/v1/features"


class Routes:
    """Finds the handler of a request.

    Args:
        project: whose views are served.
        online: the store.
        now_us: the clock, in microseconds since 1970.
        metrics: gives the metrics page.
        local: whether the store answers in microseconds, with no network on the way.
        log: where every vector of the general path is written before it is answered; with it, answers of the
            fast path come with entries that must be written before they are sent.
    """

    def __init__(
        self,
        project: Project,
        online: OnlineStore,
        now_us: Callable[[], int],
        metrics: Callable[[], bytes],
        *,
        local: bool,
        log: "FeatureLog | None" = None,
    ) -> None:
        selections = Selections(project)
        general = General(online, now_us, log)
        views = [view for view in project.views if isinstance(view, FeatureView)]
        fast = {view.name: Fast(view, online, now_us, local=local, logged=log is not None) for view in views}
        by_path: dict[str, dict[str, Handler]] = {
            "/healthz": {"GET": _Told("/healthz", lambda: b'{"status":"ok"}')},
            "/metrics": {"GET": _Told("/metrics", metrics, _TEXT)},
            "/get-online-features": {"POST": FeastForm(selections, fast, general)},
            _VIEWS: {"GET": _described(_VIEWS, [_about(v) for v in project.views])},
        }
        for view in project.views:
            path = f"{_VIEWS}/{view.name}"
            by_path[path] = {"GET": _described(f"{_VIEWS}/{{view}}", _about(view))}
            if isinstance(view, FeatureView):
                by_path[path]["POST"] = CompactView(view, fast[view.name], general)
        self._by_path: Mapping[str, Mapping[str, Handler]] = by_path
        self._selections = selections

    def find(self, head: Head) -> Handler:
        """Who answers.

        Raises:
            RefusedError: nobody does (404), or not to this method (405).
        """
        methods = self._by_path.get(head.path)
        if methods is None:
            methods = self._otherwise(head.path)
        handler = methods.get("GET" if head.method == "HEAD" else head.method)
        if handler is None:
            allowed = ", ".join(methods)
            raise RefusedError(
                405, f"{head.method} is not answered at {head.path[:100]}; use {allowed}", allowed
            )
        return handler

    def _otherwise(self, path: str) -> Mapping[str, Handler]:
        plain = unquote(path)
        if plain in self._by_path:
            return self._by_path[plain]
        if plain.startswith(f"{_VIEWS}/"):
            self._selections.view(plain.removeprefix(f"{_VIEWS}/"))
        raise RefusedError(404, f"there is nothing at {path[:100]!r}")


class _Told:
    """Says something that needs no question."""

    def __init__(self, route: str, tell: Callable[[], bytes], kind: bytes = b"application/json") -> None:
        self.route = route
        self._tell = tell
        self._kind = kind

    def at_once(self, head: Head, body: bytes) -> Reply | None:
        """See `Handler`."""
        return self.slowly(head, body)

    def slowly(self, _head: Head, _body: bytes) -> Reply:
        """See `Handler`."""
        return Reply(self._tell(), self._kind)


def _described(route: str, about: object) -> _Told:
    body = orjson.dumps(about)
    return _Told(route, lambda: body)


def _about(view: View) -> dict[str, object]:
    keyed = isinstance(view, FeatureView)
    return {
        "view": view.name,
        "asks": list(view.asks if isinstance(view, FeatureView) else view.inputs),
        "features": list(view.features),
        "ttl_s": view.ttl.total_seconds() if isinstance(view, FeatureView) and view.ttl else None,
        "keys": keyed,
    }
