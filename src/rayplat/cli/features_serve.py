"""`rayplat features serve`: the feature server, in the foreground.

Knows its options; it does not know how it answers.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from rayplat.cli.command import Call
from rayplat.cli.output import fields
from rayplat.cli.parameters import ProjectAddress

if TYPE_CHECKING:
    from rayplat.core.settings import Settings
    from rayplat.features.parity.log import FeatureLog

Port = Annotated[int, typer.Option(min=0, max=65_535, help="Where to listen; 0: a free port.")]
Host = Annotated[str, typer.Option(help="The address to listen at. Nobody is asked for a token.")]
Workers = Annotated[int, typer.Option(min=1, max=256, help="Processes that share the port.")]

Awake = Annotated[
    bool, typer.Option(help="Look 200 us for the next request before sleeping, where requests come so fast.")
]
Log = Annotated[bool, typer.Option(help="Log every vector before it is answered, for `features prove`.")]


def serve(
    call: Call,
    project: ProjectAddress,
    port: Port = 6566,
    host: Host = "127.0.0.1",
    workers: Workers = 1,
    *,
    awake: Awake = True,
    log: Log = True,
) -> None:
    """Answer online features over HTTP until SIGTERM or Ctrl-C; what was asked is answered still.

    POST /get-online-features takes Feast's questions, POST /v1/features/VIEW takes {"keys": [...]}.
    It listens on loopback by default: whoever reaches the port may read the features.
    """
    from rayplat.features.server.process import Where
    from rayplat.features.server.process import serve as answer

    def told(url: str) -> None:
        call.show({"url": url, "workers": workers}, lambda: fields({"url": url, "workers": workers}))

    answer(call.settings(), project, Where(host, port, workers, awake), told, _open_log if log else None)


def _open_log(settings: "Settings") -> "FeatureLog":
    """The platform's log of served vectors, in a process of the server."""
    from rayplat.data.lakehouse.catalog import Lakehouse
    from rayplat.features.parity.log import open_feature_log

    return open_feature_log(settings, Lakehouse(settings))
