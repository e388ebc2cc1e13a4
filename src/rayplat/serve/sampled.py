"""A prediction log that keeps a share of what it is given.

Knows which predictions are kept: it is decided by the prediction's id, so everybody decides alike. It does
not know where the log keeps them.
"""

import zlib
from collections.abc import Sequence
from concurrent.futures import Future

from rayplat.serve.outbox import PredictionRecord
from rayplat.serve.prediction_log import Log

_STEPS = 1 << 32


def kept(prediction_id: str, share: float) -> bool:
    """Whether a prediction is within a share."""
    return zlib.crc32(prediction_id.encode()) < share * _STEPS


class SampledLog:
    """See the module.

    Args:
        log: keeps the share.
        share: 0 to 1.
    """

    def __init__(self, log: Log, share: float) -> None:
        self._log = log
        self._share = share

    def submit(self, records: Sequence[PredictionRecord]) -> "Future[None]":
        """As of `Log`; what is not kept is done at once."""
        chosen = [record for record in records if kept(record.prediction_id, self._share)]
        if chosen:
            return self._log.submit(chosen)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        """As of `Log`."""
        self._log.close()
