"""The arms of a replica: its spec's versions loaded, and put together with its log.

Knows what a version that cannot be loaded means to the others; it does not know how one is loaded.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from rayplat.core.errors import RayplatError
from rayplat.core.telemetry import get_logger
from rayplat.serve.arms.opening import Opened, Versions, open_arms
from rayplat.serve.others import VersionAt
from rayplat.serve.outbox import CANARY, CHAMPION, PREVIOUS, SHADOW, PredictionRecord
from rayplat.serve.prediction_log import Log
from rayplat.serve.predictor import Predictor
from rayplat.serve.served import Answering, Served
from rayplat.serve.spec import EndpointSpec

Build = Callable[[EndpointSpec, str], Served]
"""Loads the version of a spec; its predictor records the arm that is named."""


class _ArmsLog:
    """The log of a replica, closed after the arms: what a shadow says last is kept."""

    def __init__(self, log: Log, opened: Opened) -> None:
        self._log = log
        self._opened = opened

    def submit(self, records: Sequence[PredictionRecord]) -> "Future[None]":
        """See `Log.submit`."""
        return self._log.submit(records)

    def close(self) -> None:
        """See `Log.close`."""
        self._opened.close()
        self._log.close()


def with_arms(spec: EndpointSpec, build: Build, log: Log) -> tuple[Served, Log]:
    """What a replica answers with, and where what its arms answer is logged.

    A challenger that cannot be loaded fails the start: somebody has given it a share. Of the champion before
    it is only told, for it is needed when all else has failed.

    Raises:
        RayplatError: as `build`.
    """
    champion = build(spec, CHAMPION)
    others, traffic = spec.others, spec.traffic
    networks = dict[int, Any](champion.parts.networks) if champion.parts is not None else {}
    canary = shadow = previous = None
    if others.challenger is not None and traffic.canary > 0:
        canary = _version(spec, build, others.challenger, CANARY, networks)
    if others.challenger is not None and traffic.shadow > 0:
        # It is loaded once, whatever it is asked for.
        shadow = (
            canary.under(SHADOW)
            if isinstance(canary, Predictor)
            else _version(spec, build, others.challenger, SHADOW, {})
        )
    if others.previous is not None:
        try:
            previous = _version(spec, build, others.previous, PREVIOUS, networks)
        except RayplatError as error:
            get_logger("serve.arms").warning("the version before cannot stand in", error=str(error))
    opened = open_arms(
        Versions(champion.predictor, canary, shadow, previous),
        traffic,
        lambda: log,
        default_answer=spec.answering.default,
        timeout_s=spec.answering.model_s,
    )
    if opened.answering is champion.predictor:
        return champion, log
    parts = None if champion.parts is None else replace(champion.parts, networks=networks)
    return replace(champion, predictor=opened.answering, parts=parts), _ArmsLog(log, opened)


def _version(
    spec: EndpointSpec, build: Build, at: VersionAt, arm: str, networks: dict[int, Any]
) -> Answering:
    """A version; its network is put beside the others that may answer in parts."""
    other = replace(
        spec, version=at.version, artifact_uri=at.artifact_uri, manifest_sha256=at.manifest_sha256
    )
    built = build(other, arm)
    if built.parts is not None:
        networks.update(built.parts.networks)
    return built.predictor
