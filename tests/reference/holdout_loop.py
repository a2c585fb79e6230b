"""What is held out of a user's items, one interaction at a time."""

from collections import defaultdict

Event = tuple[int, int, int]
"""User, item, time."""
Parts = dict[str, dict[int, list[int]]]
"""By part, each user's items, oldest first."""


def by_part(events: list[Event], part_of: dict[Event, str], least: int) -> Parts:
    """The parts of users with ``least`` items to train on."""
    parts: Parts = {name: defaultdict(list) for name in ("train", "valid", "test")}
    for event in sorted(events, key=lambda event: (event[0], event[2])):
        parts[part_of[event]][event[0]].append(event[1])
    few = {user for user, _, _ in events if len(parts["train"][user]) < least}
    return {
        name: {user: items for user, items in of.items() if items and user not in few} for name, of in parts.items()
    }


def global_time_loop(events: list[Event], least: int) -> Parts:
    """Cut at the moments of the interactions nine and eight tenths through."""
    times = sorted(time for _, _, time in events)
    valid_from, test_from = times[int(len(times) * 0.8)], times[int(len(times) * 0.9)]
    part_of = {}
    for event in events:
        time = event[2]
        part_of[event] = "test" if time >= test_from else "valid" if time >= valid_from else "train"
    return by_part(events, part_of, least)


def whole_loop(events: list[Event], least: int) -> Parts:
    """The last item of every user, and the one before."""
    part_of = dict.fromkeys(events, "train")
    for user in {user for user, _, _ in events}:
        own = sorted((event for event in events if event[0] == user), key=lambda event: event[2])
        part_of[own[-1]], part_of[own[-2]] = "test", "valid"
    return by_part(events, part_of, least)


def given_loop(events: list[Event], label_of: dict[Event, int]) -> Parts:
    """The part that each interaction was given; users without training items are left out, as in MMRec."""
    return by_part(events, {event: ("train", "valid", "test")[label_of[event]] for event in events}, least=1)
