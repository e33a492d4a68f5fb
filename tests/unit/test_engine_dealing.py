"""Shares of unequal members, in a simulation where a second costs nothing."""

import heapq
import itertools

import pytest

from vsr.engine.dealing import Share, is_due


def simulate(seconds, groups, *, ahead=16, frames=1, warming=()):
    """Deals groups to members of these seconds a frame.

    Returns:
        Frames that each did, the time when the last one ended, and the longest wait of a finished
        group for the ones before it.
    """
    shares = [Share(room=2) for _ in seconds]
    paid = [list(warming[n : n + 1]) for n in range(len(seconds))]
    left, events, order, now = groups, [], itertools.count(), 0.0
    hands = [[] for _ in seconds]
    finished = {}
    while left or any(hands):
        dealt = True
        while dealt:
            dealt = False
            for n, share in enumerate(shares):
                if is_due(share, shares, [frames] * min(left, ahead), now):
                    share.take(frames, now)
                    left, dealt = left - 1, True
                    hands[n].append(next(order))
                    if len(hands[n]) == 1:
                        heapq.heappush(events, (now + seconds[n] * frames + sum(paid[n]), n))
        assert events, "nobody works though there is work"
        now, n = heapq.heappop(events)
        paid[n] = []
        finished[hands[n].pop(0)] = now
        shares[n].done(frames, now)
        if hands[n]:
            heapq.heappush(events, (now + seconds[n] * frames, n))
    waits = [max(finished[k] for k in range(number + 1)) - finished[number] for number in finished]
    return [share.dealt for share in shares], now, max(waits)


@pytest.mark.parametrize("frames", [1, 8])
@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 7.5])
@pytest.mark.parametrize("groups", [20, 101, 400])
def test_unequal_members_end_together(ratio, groups, frames):
    """Within one group of the slower one of what perfect sharing takes."""
    dealt, seconds, _ = simulate([1.0, ratio], groups, frames=frames)
    assert sum(dealt) == groups * frames
    perfect = groups * frames / (1 + 1 / ratio)
    assert seconds <= perfect + 1.5 * ratio * frames
    assert seconds < groups * frames  # a second member is never worse than none


def test_shares_are_as_speeds():
    dealt, seconds, _ = simulate([1.0, 4.0], 500)
    assert dealt[0] == pytest.approx(400, abs=4)
    assert dealt[1] == pytest.approx(100, abs=4)
    assert seconds == pytest.approx(400, abs=5)
    dealt, _, _ = simulate([1.0, 1.0, 2.0], 500)
    assert dealt == [
        pytest.approx(200, abs=4),
        pytest.approx(200, abs=4),
        pytest.approx(100, abs=4),
    ]


def test_the_last_groups_are_not_for_the_slow():
    """It is tried at the start, and then gets nothing that it would end later than others."""
    for groups in range(10, 40):
        dealt, seconds, _ = simulate([1.0, 9.0], groups)
        alone = groups - dealt[1]
        assert seconds <= max(18.0, alone + 1)


def test_a_member_too_slow_for_what_is_known_gets_two_trials():
    dealt, seconds, _ = simulate([1.0, 100.0], 1000, ahead=16)
    assert dealt == [998, 2]
    assert seconds == pytest.approx(998, abs=2)


def test_a_slow_member_holds_nothing_up_for_longer_than_what_is_known_takes():
    for ratio in (2, 5, 10):
        _, _, wait = simulate([1.0, ratio], 300, ahead=8)
        assert wait <= 2 * ratio


def test_warming_up_does_not_count():
    """A GPU loads its libraries during the first group, and is the faster one all the same."""
    dealt, _, _ = simulate([0.01, 0.2], 400, warming=[5.0])
    assert dealt[0] > 300


def test_a_member_that_becomes_slower_gets_less():
    share, other = Share(warm=True), Share(warm=True)
    for each in (share, other):
        each.take(1, 0.0)
        each.done(1, 1.0)
    assert share.pace == other.pace == 1
    for n in range(20):
        share.take(1, 10.0 * n)
        share.done(1, 10.0 * n + 5)
    assert share.pace == pytest.approx(5, rel=0.05)
    assert not is_due(share, [share, other], [1], 200.0)
    assert is_due(share, [share, other], [1] * 6, 200.0)


def test_side_by_side_is_measured_as_one():
    share = Share(parallel=4, room=5)
    assert share.has_room
    for _ in range(4):
        share.take(2, 0.0)
    assert not share.has_room
    for _ in range(4):
        share.done(2, 8.0)
    for _ in range(5):
        share.take(2, 8.0)
    assert share.pace == pytest.approx(1, rel=0.5)
    assert not share.has_room


def test_what_is_dropped_was_not_dealt():
    share = Share(room=3)
    share.warm = True
    share.take(4, 0.0)
    share.done(4, 1.0)
    share.take(4, 1.0)
    share.take(4, 1.0)
    share.drop()
    assert (share.dealt, share.groups) == (4, 0)
