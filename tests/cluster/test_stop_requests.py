from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rayplat.cluster.stop_requests import StopRequests
from rayplat.core.settings import Settings

AT = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_request_is_asked_once_polled_honoured_and_may_be_asked_anew(tmp_path: Path) -> None:
    with closing(StopRequests(Settings(home=tmp_path))) as requests:
        assert requests.asked("run", "r") is None
        assert requests.ask("run", "r", "too dear", AT)
        assert not requests.ask("run", "r", "again", AT + timedelta(seconds=1))
        found = requests.asked("run", "r")
        assert found is not None
        assert (found.reason, found.at, found.honoured_at) == ("too dear", AT, None)
        assert requests.asked("job", "r") is None
        requests.honour("run", "r", AT + timedelta(seconds=5))
        requests.honour("run", "r", AT + timedelta(seconds=9))
        assert requests.all()[0].honoured_at == AT + timedelta(seconds=5)
        assert requests.open() == []
        assert requests.ask("run", "r", "anew", AT + timedelta(hours=1))
        assert [r.reason for r in requests.open()] == ["anew"]


def test_a_request_that_is_withdrawn_is_gone_unless_it_was_honoured(tmp_path: Path) -> None:
    with closing(StopRequests(Settings(home=tmp_path))) as requests:
        requests.ask("job", "a", "x", AT)
        requests.ask("job", "b", "x", AT)
        requests.force("job", "a", AT)
        assert requests.all()[0].forced_at == AT
        requests.honour("job", "b", AT)
        requests.withdraw([("job", "a"), ("job", "b")])
        assert [r.owner for r in requests.all()] == ["b"]
