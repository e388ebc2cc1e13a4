"""A dashboard that answers as Ray's does, and as a broken one would; everything over a real socket."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class FakeDashboard:
    """Ray's jobs API in memory. Set the fields to make it behave badly.

    Attributes:
        token: what it wants to be sent; empty: nothing.
        refuse_jobs: answer a submission with 500 and do not take it.
        lose_answers: take a submission, and answer 500 all the same.
    """

    def __init__(self) -> None:
        self.version: Any = {"version": "4", "ray_version": "2.60.0", "session_name": "session_1"}
        self.token = ""
        self.refuse_jobs = False
        self.lose_answers = False
        self.slow_s = 0.0
        self.jobs: dict[str, dict[str, Any]] = {}
        self.packages: dict[str, bytes] = {}
        self.requests: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_PUT(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                time.sleep(fake.slow_s)
                status, told = fake._told(self.command, self.path, body, self.headers.get("Authorization"))
                content = told.encode() if isinstance(told, str) else json.dumps(told).encode()
                self.send_response(status)
                kind = "text/plain" if isinstance(told, str) else "application/json; charset=utf-8"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _told(self, method: str, path: str, body: bytes, authorization: str | None) -> tuple[int, Any]:
        self.requests.append(f"{method} {path}")
        if self.token and authorization is None:
            return 401, "Unauthorized: Missing authentication token"
        if self.token and authorization != f"Bearer {self.token}":
            return 403, "Forbidden: Invalid authentication token"
        if path == "/api/version":
            return 200, self.version
        if path.startswith("/api/packages/gcs/"):
            return self._package(method, path.rpartition("/")[2], body)
        return self._job(method, path, body)

    def _package(self, method: str, name: str, body: bytes) -> tuple[int, Any]:
        if method == "PUT":
            self.packages[name] = body
        return (200, "") if name in self.packages else (404, f"Package {name} does not exist")

    def _job(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        parts = path.removeprefix("/api/jobs/").split("/")
        if method == "POST" and parts == [""]:
            return self._submit(json.loads(body))
        if parts == [""]:
            return 200, list(self.jobs.values())
        job = self.jobs.get(parts[0])
        if job is None:
            return 404, f"Job {parts[0]} does not exist"
        if parts[1:] == ["stop"]:
            job["status"] = "STOPPED"
            return 200, {"stopped": True}
        return 200, {"logs": f"the log of {parts[0]}\n"} if parts[1:] == ["logs"] else job

    def _submit(self, asked: dict[str, Any]) -> tuple[int, Any]:
        if self.refuse_jobs:
            return 500, "Traceback\nTimeoutError: no agent"
        self.take(**asked)
        if self.lose_answers:
            return 500, "the connection was lost"
        return 200, {"submission_id": asked["submission_id"], "job_id": asked["submission_id"]}

    def take(self, submission_id: str, entrypoint: str, **more: Any) -> None:
        """A job that runs."""
        self.jobs[submission_id] = {
            "type": "SUBMISSION",
            "job_id": "01000000",
            "start_time": 1_700_000_000_000,
            "end_time": None,
            "status": "RUNNING",
            "message": "Job is currently running.",
            "driver_exit_code": None,
            **more,
            "submission_id": submission_id,
            "entrypoint": entrypoint,
        }

    def finish(self, submission_id: str, status: str, exit_code: int | None = None) -> None:
        """A job ends."""
        self.jobs[submission_id] |= {
            "status": status,
            "message": f"it is {status}",
            "end_time": 1_700_000_009_000,
            "driver_exit_code": exit_code,
        }
