from rayplat.train.policy import Cause, Failure, GiveUp, Restart, decide

CODE = Failure(1, Cause.CODE, "ZeroDivisionError at project.py:7")
LOST = Failure(0, Cause.LOST, "worker died")
PEER = Failure(1, Cause.PEER, "connection closed by peer")


def test_an_error_in_the_code_stops_at_once_whatever_else_failed():
    for failures in ([CODE], [PEER, CODE], [LOST, CODE]):
        decision = decide(failures, 0, 3)
        assert isinstance(decision, GiveUp)
        assert decision.failure == CODE


def test_a_lost_worker_is_started_again_and_named_rather_than_its_peer():
    assert decide([PEER, LOST], 0, 3) == Restart("worker 0 was lost")
    assert decide([PEER], 2, 3) == Restart("worker 1 was lost")


def test_restarts_that_bring_no_checkpoint_end():
    decision = decide([PEER, LOST], 3, 3)
    assert isinstance(decision, GiveUp)
    assert decision.failure == LOST
    assert "3 restarts" in decision.reason
