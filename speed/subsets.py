"""What filtering the interactions of a release to a k-core costs, printed as JSON.

    python speed/subsets.py [--smoke] [--repeats 3]

Ten million interactions of a made data set, in memory: ``microlens.subsets.k_core`` beside pandas, filtered by the
sizes of groups until nothing changes. At a hundredth of the size, also beside counters in Python and a pandas frame,
the way of RecBole's ``Dataset._filter_by_inter_num``. Each way runs in a process of its own, in turn, and all have to
keep as many interactions. Then ``microlens data filter``, the whole command.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from contestants import Turns, contestant, in_turns
from measure import (
    SMOKE,
    Cost,
    Int64,
    Line,
    Sequences,
    Shape,
    long_tailed_sequences,
    print_result,
    side_by_side,
    write_release,
)

from microlens.subsets.k_core import k_core

TEN_MILLION = Shape(users=1_400_000, items=90_000, interactions=10_000_000)
CORE = 5
WALL_SECONDS = 5.0


def by_microlens(users: Int64, items: Int64) -> int:
    """The size of the k-core, by ours."""
    return int(k_core(users, items, CORE, CORE)[0].sum())


def by_groups(users: Int64, items: Int64) -> int:
    """The size of the k-core, by pandas."""
    frame = pd.DataFrame({"user": users, "item": items})
    while True:
        before = len(frame)
        for name in ("user", "item"):
            frame = frame[frame.groupby(name)[name].transform("size") >= CORE]
        if len(frame) == before:
            return before


def by_counters(users: Int64, items: Int64) -> int:
    """The size of the k-core, by counters that are updated as users and items are removed."""
    frame = pd.DataFrame({"user": users, "item": items})
    counts = {name: Counter(frame[name].to_numpy()) for name in ("user", "item")}
    while True:
        few = {name: {one for one, count in counts[name].items() if count < CORE} for name in counts}
        if not any(few.values()):
            return len(frame)
        for name in counts:
            for one in few[name]:
                del counts[name][one]
        dropped = frame["user"].isin(few["user"]) | frame["item"].isin(few["item"])
        for name in counts:
            counts[name].subtract(one for one in frame[name].to_numpy()[dropped.to_numpy()] if one not in few[name])
        frame = frame[~dropped]


WAYS = {
    "microlens": (by_microlens, 1), "pandas": (by_groups, 1),
    "microlens, a hundredth": (by_microlens, 100), "counters, a hundredth": (by_counters, 100),
}  # fmt: skip


def pairs_of(sequences: Sequences) -> tuple[Int64, Int64]:
    """The user and the item of every interaction."""
    return np.repeat(np.arange(len(sequences.offsets) - 1), np.diff(sequences.offsets)), sequences.items


def filter_pairs(turns: Turns, smoke: bool, way: str) -> None:
    """Filter made interactions in one of the ways; how many stay is a fact."""
    function, parts = WAYS[way]
    users, items = pairs_of(long_tailed_sequences(SMOKE if smoke else TEN_MILLION))
    part = len(users) // parts
    users, items = users[:part], items[:part]
    turns.take(lambda: function(users, items), kept=function(users, items))


def in_memory(smoke: bool, repeats: int) -> dict[str, Cost]:
    """The costs of all ways.

    Raises:
        AssertionError: two ways keep different numbers of interactions.
    """
    turned = in_turns({way: contestant(filter_pairs, smoke=smoke, way=way) for way in WAYS}, repeats)
    kept = [way.facts["kept"] for way in turned.values()]
    assert kept[0] == kept[1], kept
    assert kept[2] == kept[3], kept
    return {name: way.cost for name, way in turned.items()}


def main() -> None:
    """Measure the ways side by side, then the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    shape, repeats = (SMOKE, 1) if options.smoke else (TEN_MILLION, options.repeats)
    costs = in_memory(options.smoke, repeats)
    sequences = long_tailed_sequences(shape)
    with tempfile.TemporaryDirectory() as name:
        release = write_release(Path(name, "release"), sequences, "csv")
        numbers = iter(range(1000))

        def command() -> None:
            out = Path(name, f"core-{next(numbers)}")
            arguments = ["data", "filter", str(release), str(out), "--k-core", str(CORE)]
            subprocess.run([sys.executable, "-m", "microlens", *arguments], check=True, capture_output=True)

        whole = side_by_side({"microlens data filter": command}, 1, who=resource.RUSAGE_CHILDREN)
    lines = [
        Line(
            what=f"k_core of {len(sequences.items):,} interactions",
            measured=costs["microlens"].wall_seconds,
            unit="s",
            bound="at most",
            reach=WALL_SECONDS,
        )
    ]
    print_result("subsets", options, [], {"in memory": costs, "whole command": whole}, lines)


if __name__ == "__main__":
    main()
