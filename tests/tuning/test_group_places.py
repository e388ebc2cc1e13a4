"""The places of an elastic trial over rooms that are fakes."""

import threading

from rayplat.tuning.group_places import OwnPlace, TrialPlaces


class Room:
    """One place; its worker comes when it is reserved."""

    def __init__(self, name, *, reserved=True):
        self.name, self.reserved = name, reserved
        self.member, self.count, self.closed = "", 0, False
        self.released, self.forgotten, self.lost = [], [], []
        self.draining = {}

    def fill(self):
        if not self.reserved or self.member:
            return []
        self.count += 1
        self.member = f"{self.name}-{self.count}"
        return [(self.member, 0)]

    def ended(self):
        return self.lost

    def why(self, member):
        return f"why {member}"

    def awaited(self):
        return []

    def leaving(self):
        return self.draining

    def renew(self, member):
        self.member = ""

    def forget(self, member):
        self.forgotten.append(member)
        self.member = ""

    def release(self, member):
        self.released.append(member)
        self.member = ""

    def close(self):
        self.closed = True


class Trial:
    """Places of one trial, with what it may have as a number to set."""

    def __init__(self, allowed, *, reserved=True, least=1):
        self.allowed, self.lent = allowed, []
        self.own = Room("own")

        def lend():
            self.lent.append(Room(f"lent{len(self.lent)}", reserved=reserved))
            return self.lent[-1]

        self.places = TrialPlaces(self.own, lend, lambda: self.allowed, least)
        assert self.places.fill() == [("own-1", 0)]
        self.places.trains("own-1")


def test_places_are_taken_as_they_become_free_and_each_has_a_slot_of_its_own():
    trial = Trial(1)
    assert trial.places.fill() == []
    trial.allowed = 3
    assert trial.places.fill() == [("lent0-1", 1), ("lent1-1", 2)]
    assert trial.places.fill() == []


def test_a_trial_begins_with_the_least_it_needs_and_is_lent_more_while_it_trains():
    own, lent = Room("own"), []

    def lend():
        lent.append(Room(f"lent{len(lent)}"))
        return lent[-1]

    places = TrialPlaces(own, lend, lambda: 4, least=2)
    assert places.fill() == [("own-1", 0), ("lent0-1", 1)]
    assert places.fill() == []
    places.trains("lent0-1")
    assert places.fill() == []
    places.trains("own-1")
    assert places.fill() == [("lent1-1", 2), ("lent2-1", 3)]


def test_a_place_that_is_only_waited_for_goes_back_at_once():
    trial = Trial(2, reserved=False)
    trial.places.fill()
    trial.allowed = 1
    assert trial.places.fill() == []
    assert trial.lent[0].closed
    assert trial.places.ended() == []


def test_a_worker_that_does_not_train_yet_is_ended_when_its_place_goes_back():
    trial = Trial(2)
    trial.places.fill()
    trial.allowed = 1
    trial.places.fill()
    assert trial.lent[0].closed
    assert trial.lent[0].forgotten == ["lent0-1"]
    assert trial.places.ended() == ["lent0-1"]
    assert "given back" in trial.places.why("lent0-1")
    trial.places.forget("lent0-1")
    assert trial.places.ended() == []


def test_a_worker_that_trains_leaves_between_two_steps_before_its_place_goes_back():
    trial = Trial(2)
    trial.places.fill()
    trial.places.trains("lent0-1")
    trial.allowed = 1
    trial.places.fill()
    assert trial.places.leaving() == {"lent0-1": 0.0}
    assert not trial.lent[0].closed
    trial.places.release("lent0-1")
    assert trial.lent[0].closed
    assert trial.lent[0].released == []  # that would reserve it again
    assert trial.places.leaving() == {}
    trial.allowed = 2
    assert trial.places.fill() == [("lent1-1", 1)]


def test_who_does_not_train_yet_goes_first_and_the_own_place_never():
    trial = Trial(3)
    trial.places.fill()
    trial.places.trains("lent0-1")
    trial.allowed = 2
    trial.places.fill()
    assert [room.closed for room in trial.lent] == [False, True]
    trial.allowed = 0
    trial.places.fill()
    assert trial.places.leaving() == {"lent0-1": 0.0}


def test_a_lost_worker_is_replaced_in_its_place_and_one_on_a_draining_node_reserved_anew():
    trial = Trial(2)
    trial.places.fill()
    trial.lent[0].lost = ["lent0-1"]
    assert trial.places.ended() == ["lent0-1"]
    trial.places.forget("lent0-1")
    trial.lent[0].lost = []
    assert trial.places.fill() == [("lent0-2", 1)]
    trial.lent[0].draining = {"lent0-2": 9.0}
    assert trial.places.leaving() == {"lent0-2": 9.0}
    trial.places.release("lent0-2")
    assert trial.lent[0].released == ["lent0-2"]
    assert not trial.lent[0].closed


def test_a_worker_that_is_gone_already_touches_no_other_place():
    trial = Trial(1)
    trial.places.fill()
    trial.places.forget("somebody-else")
    trial.places.release("somebody-else")
    assert trial.own.forgotten == []
    assert trial.places.fill() == []


def test_the_own_worker_is_a_thread_that_is_started_again_when_it_has_ended():
    go, names = threading.Semaphore(0), []

    def train(name):
        names.append(name)
        go.acquire()

    ended = []
    own = OwnPlace(train, lambda: ended.append(True))
    ((first, slot),) = own.fill()
    assert slot == 0
    assert own.fill() == []
    assert own.ended() == []
    go.release()
    own.forget(first)
    ((second, _),) = own.fill()
    assert second != first
    go.release()
    own.wait()
    assert names == [first, second]
    assert own.ended() == [second]
    assert ended == []


def test_a_thread_that_hangs_takes_its_process_with_it():
    go, ended = threading.Event(), []
    own = OwnPlace(lambda name: go.wait(60), lambda: ended.append(True), end_within_s=0.05)
    ((member, _),) = own.fill()
    own.forget(member)
    assert ended == [True]
    go.set()
