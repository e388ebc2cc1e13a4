"""The application of a replica with tokens: who is answered, and what the log says of him."""

import asyncio
from datetime import timedelta

import httpx
import pytest

from rayplat.core.project.model import Autoscale
from rayplat.core.settings import Settings
from rayplat.serve.admission.admission import open_admission
from rayplat.serve.admission.decision import Refused
from rayplat.serve.admission.tokens import TokenStore
from rayplat.serve.http import EndpointApp
from rayplat.serve.request import RequestForm
from rayplat.serve.spec import EndpointSpec

TRACE = "0af7651916cd43dd8448eb211c80319c"


class _Answer:
    version = 1

    def __init__(self, records):
        self.records = records

    def predictions(self):
        return [{"id": record.prediction_id} for record in self.records]


class _Predictor:
    endpoint = model = "late"
    version = 1
    inputs = ()

    def answer(self, asked):
        from tests.serve.logs import record

        return [_Answer([record()]) for _ in asked]


class _Log:
    def __init__(self):
        self.records = []

    def submit(self, records):
        from concurrent.futures import Future

        self.records += records
        done = Future()
        done.set_result(None)
        return done

    def close(self):
        pass


class _FullDoor:
    def check(self, header, endpoint, rows, now):
        return Refused(503, "too many requests wait: ask later", 1.5)

    def waited(self, seconds):
        pass

    def close(self):
        pass


def _ask(app, **headers):
    async def once():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
            return await http.post("/predict", json={"instances": [{}]}, headers=headers)

    return asyncio.run(once())


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, serve={"auth": "token"})


def _app(log, admission):
    return EndpointApp(_Predictor(), RequestForm("t", {}, (), None), log, {}, admission)


def test_who_has_a_token_is_answered_and_named_in_the_log(settings):
    store, log = TokenStore(settings), _Log()
    made = store.create("shop", ("late:predict",), timedelta(days=1))
    app = _app(log, open_admission(settings))
    answer = _ask(app, authorization=f"Bearer {made.token}", traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    assert answer.status_code == 200
    assert [(r.caller, r.trace_id) for r in log.records] == [("shop", TRACE)]
    refused = _ask(app)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="rayplat"')
    assert _ask(app, authorization="Bearer rpt_").status_code == 401
    assert len(log.records) == 1
    app.close()
    store.close()


def test_a_replica_with_too_much_says_when_to_ask_again():
    app = _app(_Log(), _FullDoor())
    answer = _ask(app)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    app.close()


def test_an_endpoint_is_deployed_again_when_who_is_let_in_changes(tmp_path):
    def print_of(**serve):
        made = EndpointSpec(
            settings=Settings(home=tmp_path, serve=serve),
            project="p",
            definitions_sha256="",
            endpoint="late",
            model="late",
            version=1,
            artifact_uri="",
            manifest_sha256="",
            autoscale=Autoscale(),
        )
        return made.fingerprint()

    changed = [{}, {"auth": "token"}, {"jwt_issuer": "x"}, {"log": "database"}, {"log_sync": "process"}]
    assert len({print_of(**serve) for serve in changed}) == len(changed)
    assert print_of() == print_of(port=9)
