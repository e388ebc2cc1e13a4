"""The prediction log of class `replicated`: what was answered is on two machines, or with Kafka's brokers.

Knows which of the two the settings ask for, and how the parts are put together; it does not know how bytes
are written, sent or shipped.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rayplat.core.settings import Settings
from rayplat.serve.log.keeper import Keeper
from rayplat.serve.log.local import LocalLog
from rayplat.serve.log.mirror import Mirror
from rayplat.serve.log.nodes import ensure_peers, this_node
from rayplat.serve.log.peers import Peer, Peers
from rayplat.serve.log.places import local_folder, on_kafka, replicated_folder
from rayplat.serve.log.slot import hold_new

if TYPE_CHECKING:
    from rayplat.serve.log.topic import KafkaLog


class MirroredLog(LocalLog):
    """A log whose files another machine has too.

    Args:
        node: the machine that this is.
        folder: of the slots.
        peers: gives the machines that may keep copies.
        keeper: ships what is written, see `Keeper`.
    """

    def __init__(self, settings: Settings, node: str, *, keeper: Keeper | None = None) -> None:
        self._peers = Peers(settings)
        self._keeper = keeper or Keeper(local_folder(settings), settings)
        folder = replicated_folder(settings, node)
        sync = settings.serve.log_sync
        super().__init__(
            folder,
            sync=sync,
            opened=self._keeper.start,
            take=hold_new,
            elsewhere=Mirror(_listed(self._peers, node, folder), disk=sync == "disk"),
        )

    def close(self) -> None:
        """See `LocalLog.close`."""
        super().close()
        self._keeper.close()
        self._peers.close()


def open_replicated(settings: Settings) -> "MirroredLog | KafkaLog":
    """The log of a replica.

    Raises:
        UserError: the topic has fewer copies than are asked for.
        UnavailableError: the brokers do not answer.
    """
    if on_kafka(settings):
        # The client of Kafka is loaded by who needs it only.
        from rayplat.serve.log.topic import KafkaLog, open_topic_log

        topic = open_topic_log(settings)
        topic.open()  # a topic that is not what the class promises is told before anything is answered
        keeper = Keeper(local_folder(settings), settings)
        return KafkaLog(topic, opened=keeper.start, closed=keeper.close)
    ensure_peers(settings)
    return MirroredLog(settings, this_node())


def _listed(peers: Peers, node: str, folder: Path) -> Callable[[], Sequence[Peer]]:
    return lambda: peers.beside(node, str(folder), time.time())
