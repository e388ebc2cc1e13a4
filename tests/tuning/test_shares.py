from hypothesis import given
from hypothesis import strategies as st

from rayplat.tuning.shares import Desk, Wanted, shares

WANTED = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4)), max_size=6)


def wanted(*limits):
    return [Wanted(number, least, most) for number, (least, most) in enumerate(limits)]


def test_one_trial_has_all_it_can_use():
    assert shares(4, wanted((1, 8))) == {0: 4}
    assert shares(4, wanted((1, 3))) == {0: 3}


def test_places_are_shared_evenly_and_the_first_come_has_one_more():
    assert shares(4, wanted((1, 8), (1, 8))) == {0: 2, 1: 2}
    assert shares(5, wanted((1, 8), (1, 8))) == {0: 3, 1: 2}
    assert shares(5, wanted((1, 1), (1, 8))) == {0: 1, 1: 4}


def test_nobody_gets_fewer_than_it_needs_and_who_finds_none_waits():
    assert shares(4, wanted((3, 4), (2, 4), (1, 1))) == {0: 3, 1: 0, 2: 1}


@given(st.integers(0, 12), WANTED)
def test_no_place_is_given_twice_or_left_idle(places, limits):
    asking = wanted(*((least, least + more) for least, more in limits))
    given_ = shares(places, asking)
    assert sum(given_.values()) <= places
    for one in asking:
        assert given_[one.trial] == 0 or one.least <= given_[one.trial] <= one.most
    idle = places - sum(given_.values())
    assert not idle or all(given_[one.trial] in {0, one.most} for one in asking)


def test_a_trial_takes_the_places_of_one_that_ended_and_gives_them_back_to_the_next():
    desk = Desk(2)
    for one in wanted((1, 2), (1, 2)):
        desk.begin(one)
    assert (desk.ask(0), desk.ask(1)) == (1, 1)
    desk.leave(0)
    assert (desk.ask(0), desk.ask(1)) == (0, 2)
    desk.begin(Wanted(7, 1, 2))
    assert (desk.ask(1), desk.ask(7)) == (1, 1)
    desk.leave(3)  # nobody knows it
    assert (desk.ask(1), desk.ask(7)) == (1, 1)
