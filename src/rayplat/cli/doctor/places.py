"""Checks of the platform's places: warehouse, database, token, ports, Kafka, leftovers.

Knows what a healthy home looks like; it changes nothing there but a probe file that it removes.
"""

import contextlib
import json
import os
import socket
import stat
from collections.abc import Collection
from pathlib import Path

from rayplat.cli.doctor.finding import Finding, fail, ok, warn
from rayplat.cluster.processes import ours, records
from rayplat.cluster.token import OWNER_ONLY, token_path
from rayplat.core.secrets import mask
from rayplat.core.settings import Settings

_CONNECT_S = 2.0


def check_warehouse(settings: Settings) -> Finding:
    """A file can be written to the warehouse. A remote one is only named: its SDK tells the rest."""
    address = settings.warehouse
    if not address.startswith("file://"):
        return ok("warehouse", f"{mask(address)} (remote: not probed)")
    folder = Path(address.removeprefix("file://"))
    probe = folder / f".doctor-{os.getpid()}"
    made = _missing_folders(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        mend = "let its owner be who runs rayplat (chown, chmod u+rwx), or set another warehouse"
        return fail("warehouse", f"{folder}: {error.strerror}", mend)
    finally:
        for one in made:
            with contextlib.suppress(OSError):
                one.rmdir()
    return ok("warehouse", f"{folder} can be written")


def _missing_folders(folder: Path) -> list[Path]:
    return [one for one in (folder, *folder.parents) if not one.exists()]


def check_database(settings: Settings) -> Finding:
    """The database answers; SQLite keeps a write-ahead log, so that readers do not wait for writers."""
    import sqlalchemy

    address = settings.database
    shown = mask(address)
    url = sqlalchemy.make_url(address)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return ok("database", f"{shown} does not exist yet: it is made when it is needed")
    try:
        engine = sqlalchemy.create_engine(address)
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))
            mode = ""
            if url.get_backend_name() == "sqlite":
                mode = str(connection.execute(sqlalchemy.text("PRAGMA journal_mode")).scalar())
        engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ModuleNotFoundError) as error:
        reason = mask(str(getattr(error, "orig", None) or error)).splitlines()[0]
        return fail("database", f"{shown}: {reason}", "start it, or correct the setting `database`")
    if mode and mode.lower() != "wal":
        mend = f"sqlite3 {url.database} 'PRAGMA journal_mode=WAL'"
        return warn("database", f"{shown} has journal mode {mode}, not wal", mend)
    return ok("database", f"{shown} answers{', journal mode wal' if mode else ''}")


def check_token(settings: Settings) -> Finding:
    """Only its owner can read the cluster's token."""
    path = token_path(settings)
    if not path.exists():
        return ok("token", "none yet: `rayplat up` makes one")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        mend = f"`rayplat down`, delete {path}, and `rayplat up`: others may have read it"
        return fail("token", f"{path} has mode {mode:04o}, not {OWNER_ONLY:04o}", mend)
    if not path.read_bytes().strip():
        return fail("token", f"{path} is empty", f"`rayplat down`, delete {path}, and `rayplat up`")
    return ok("token", f"{path} has mode {mode:04o}")


def check_port(name: str, host: str, port: int, owners: Collection[int]) -> Finding:
    """A port is free, or held by one of the processes `owners` (their ids)."""
    check = f"port {name}"
    if port == 0:
        return ok(check, "a free one is chosen")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            holder = _holder(port)
            if holder is not None and holder in owners:
                return ok(check, f"{host}:{port} is held by this platform (process {holder})")
            who = f" (process {holder})" if holder else ""
            mend = f"stop that process, or choose another: --set {name}=0"
            return fail(check, f"{host}:{port}: {error.strerror}{who}", mend)
    return ok(check, f"{host}:{port} is free")


def _holder(port: int) -> int | None:
    """The process that listens on a port, where this user may know it."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == "LISTEN":
                return int(connection.pid) if connection.pid else None
    return None


def check_kafka(settings: Settings) -> Finding:
    """The brokers that are set, or the development broker that was started, accept a connection."""
    bootstrap, whose = settings.kafka.bootstrap, "kafka.bootstrap"
    record = settings.run_dir / "kafka.json"
    if not bootstrap:
        if not record.exists():
            return ok("kafka", "no broker is set or running: `rayplat run` starts one for development")
        whose = "the development broker"
        try:
            bootstrap = str(json.loads(record.read_text())["bootstrap"])
        except (ValueError, KeyError, TypeError) as error:
            return fail("kafka", f"{record} cannot be read: {error!r}", "`rayplat down` removes it")
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
        except (OSError, ValueError) as error:
            mend = (
                "`rayplat down`, then run again" if whose != "kafka.bootstrap" else "start it or correct it"
            )
            return fail("kafka", f"{whose} {address} does not answer: {error}", mend)
    return ok("kafka", f"{whose} {bootstrap} answers")


def check_leftovers(settings: Settings) -> Finding:
    """No record of a dead process, no draft of a file that was never finished."""
    try:
        dead = [record.name for record in records(settings) if not record.alive()]
    except (ValueError, TypeError) as error:
        return fail("leftovers", f"a record in {settings.run_dir} cannot be read: {error}", "`rayplat down`")
    drafts = [path.name for path in settings.run_dir.glob("*.draft")]
    if dead or drafts:
        return warn("leftovers", ", ".join(f"{n} (dead)" for n in dead) + " ".join(drafts), "`rayplat down`")
    return ok("leftovers", "none")


def own_processes(settings: Settings) -> set[int]:
    """The ids of the processes that this platform runs."""
    return {process.pid for process in ours(settings)}
