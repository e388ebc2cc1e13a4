"""The passport of a prediction: every link from the answer back to the offsets of its sources.

Knows in which order the links follow and who is asked for each; it says what cannot be established
instead of guessing. Nothing is written.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from rayplat.core.errors import IntegrityError, NotFoundError, RayplatError, UserError
from rayplat.core.ids import parse_prediction_id
from rayplat.core.project.project import Project
from rayplat.core.project.view import FeatureView
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.governance.audit_log import AuditLog
from rayplat.governance.entry import Entry
from rayplat.governance.node import Node, Passport, broken, unknown
from rayplat.governance.sources import event_node, snapshot_node
from rayplat.registry.artifact import read_artifact
from rayplat.registry.manifest import Manifest
from rayplat.registry.model import RegisteredVersion
from rayplat.registry.store import Registry
from rayplat.serve.outbox import PredictionRecord
from rayplat.serve.prediction_log import TABLE, PredictionLog

__all__ = ["Node", "Passport", "build_passport"]


def build_passport(
    lake: Lakehouse, registry: Registry, audit: AuditLog, project: Project, prediction_id: str
) -> Passport:
    """Trace a prediction; digests are verified now.

    A prediction is found in the lakehouse, or in the outbox while it waits there.

    Raises:
        NotFoundError: no prediction has this id.
    """
    found, place = _find(lake, audit, prediction_id)
    root = Node(
        "prediction",
        f"{found.probability:.4f} by {found.endpoint}",
        {
            "id": found.prediction_id,
            "probability": found.probability,
            "features of": found.at.isoformat(),
            "asked at": found.asked_at.isoformat(),
            "latency_s": found.latency_s,
            "arm": found.arm,
            "logged in": place,
        },
        (
            Node("request", "as it was asked", orjson.loads(found.request)),
            _features(lake, project, found),
            _endpoint(lake, registry, audit, project, found),
            _chain(audit),
        ),
    )
    return Passport(found.prediction_id, root)


def _find(lake: Lakehouse, audit: AuditLog, prediction_id: str) -> tuple[PredictionRecord, str]:
    try:
        wanted = parse_prediction_id(prediction_id)  # and so it is safe inside a filter
    except UserError as error:
        raise NotFoundError(error.what, error.mend) from error
    # What waits first: a drain that runs between the two looks moves a record that way, never back.
    waiting = PredictionLog(audit.settings)  # the audit log and the outbox are in the same database
    record = waiting.find(wanted)
    waiting.close()
    if record is not None:
        return record, "outbox or files of the prediction log (not drained yet)"
    if lake.exists(TABLE):
        rows = lake.table(TABLE).read(where=f"prediction_id == '{wanted}'").to_pylist()
        if rows:
            return PredictionRecord(**rows[0]), TABLE
    raise NotFoundError(
        f"no prediction has the id {prediction_id!r}",
        "take the id from an endpoint's answer, and the settings of the platform that answered",
    )


def _features(lake: Lakehouse, project: Project, found: PredictionRecord) -> Node:
    provenance: Mapping[str, Any] = orjson.loads(found.provenance)
    views = {view.name: view for view in project.views if isinstance(view, FeatureView)}
    events = tuple(
        event_node(lake, views[name].source, name, source)
        if name in views
        else unknown("source event", name, "the project declares no such view now")
        for name, source in provenance.items()
    )
    return Node("features", "as the model read them", orjson.loads(found.features), events)


def _endpoint(
    lake: Lakehouse, registry: Registry, audit: AuditLog, project: Project, found: PredictionRecord
) -> Node:
    deployed = [
        entry
        for entry in audit.entries("endpoint.deployed", found.endpoint)
        if entry.at <= found.asked_at and entry.details.get("version") == found.version
    ]
    version = _version(lake, registry, audit, project, found)
    if not deployed:
        why = f"the audit log has no deployment of version {found.version} before the answer"
        facts = {"endpoint": found.endpoint, "not established": why}
        return Node("endpoint", found.endpoint, facts, (version,), "unknown")
    last = deployed[-1]
    facts = {"endpoint": found.endpoint, "deployed at": last.at.isoformat(), "deployed by": last.actor}
    return Node("endpoint", found.endpoint, facts, (version,))


def _version(
    lake: Lakehouse, registry: Registry, audit: AuditLog, project: Project, found: PredictionRecord
) -> Node:
    title = f"{found.model} version {found.version}"
    try:
        registered = registry.version(found.model, found.version)
    except NotFoundError as error:
        return unknown("model version", title, error.what)
    facts = {
        "model": found.model,
        "version": found.version,
        "registered at": registered.created_at.isoformat(),
        "aliases now": list(registered.aliases),
    }
    children = (_alias(audit, found), *_artifact(lake, project, registered))
    return Node("model version", title, facts, children)


def _alias(audit: AuditLog, found: PredictionRecord) -> Node:
    """Who made this version the champion, the last time before the answer."""
    moved = [
        entry
        for entry in audit.entries("alias.moved")
        if entry.details.get("model") == found.model
        and entry.details.get("version") == found.version
        and entry.at <= found.asked_at
    ]
    if not moved:
        return unknown(
            "alias", "who let it serve", "the audit log has no alias moved to it before the answer"
        )
    return _moved(moved[-1])


def _moved(entry: Entry) -> Node:
    facts = {
        "set by": entry.actor,
        "at": entry.at.isoformat(),
        "why": entry.details.get("reason"),
        "previous version": entry.details.get("previous"),
        "audit entry": entry.seq,
    }
    return Node("alias", str(entry.details.get("alias")), facts)


def _artifact(lake: Lakehouse, project: Project, registered: RegisteredVersion) -> tuple[Node, ...]:
    facts = {"uri": registered.artifact_uri, "manifest sha256": registered.manifest_sha256}
    try:
        _, manifest = read_artifact(registered.artifact_uri, registered.manifest_sha256)
    except IntegrityError as error:
        return (broken("artifact", "not what was registered", error.what, facts),)
    except RayplatError as error:
        return (unknown("artifact", "cannot be read", error.what, facts),)
    files = {f"sha256 of {name}": pin.sha256 for name, pin in manifest.files.items()}
    return (
        Node("artifact", "verified now, every file", {**facts, **files}),
        _run(manifest, registered),
        _training(lake, project, manifest),
    )


def _run(manifest: Manifest, registered: RegisteredVersion) -> Node:
    code = manifest.code
    facts: dict[str, Any] = {
        "run": registered.run_id,
        "finished": manifest.created_at.isoformat(),
        "git commit": code.git_commit,
        "project sha256": code.project_sha256,
        **manifest.metrics,
    }
    if code.dirty or code.git_commit == "unknown":
        why = "files differed from the commit" if code.dirty else "the project is in no git repository"
        return unknown("run", registered.run_id, f"the code by its commit: {why}", facts)
    return Node("run", registered.run_id, facts)


def _training(lake: Lakehouse, project: Project, manifest: Manifest) -> Node:
    pin = manifest.training
    facts = {
        "table": pin.table,
        "snapshot": pin.snapshot_id,
        "digest": pin.digest,
        "rows to train": pin.rows_train,
        "rows to test": pin.rows_test,
    }
    pinned = sorted(pin.sources.items())
    sources = tuple(snapshot_node(lake, project, name, snapshot) for name, snapshot in pinned)
    title = f"{pin.table} at snapshot {pin.snapshot_id}"
    history = lake.table(pin.table).history() if lake.exists(pin.table) else []
    there = next((s for s in history if s.snapshot_id == pin.snapshot_id), None)
    if there is None:
        why = "the lakehouse does not have this snapshot (any more)"
        return Node("training set", title, {**facts, "not established": why}, sources, "unknown")
    told = there.properties.get("rayplat.training.digest")
    if told != pin.digest:
        how = f"the snapshot says that its content has the digest {told}"
        return Node("training set", title, {**facts, "broken": how}, sources, "broken")
    return Node("training set", title, {**facts, "built at": there.at.isoformat()}, sources)


def _chain(audit: AuditLog) -> Node:
    """Whether the audit log, on which the links above rest, is whole now."""
    try:
        count = audit.verify()
    except IntegrityError as error:
        return broken("audit log", "the chain is broken", error.what)
    head = audit.head()
    return Node("audit log", f"whole: {count} entries", {"entries": count, "head": head.hash})
