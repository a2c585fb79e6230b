"""What filtering the interactions of a release to a k-core costs, printed as JSON.

    python speed/subsets.py [--smoke] [--repeats 3]

Ten million interactions of a made data set, in memory: ``microlens.subsets.k_core`` beside pandas, filtered by the
sizes of groups until nothing changes. At a hundredth of the size, also beside counters in Python and a pandas frame,
the way of RecBole's ``Dataset._filter_by_inter_num``. Then ``microlens data filter``, the whole command.
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
from measure import SMOKE, Int64, Line, Shape, long_tailed_sequences, print_result, side_by_side, write_release

from microlens.subsets.k_core import k_core

TEN_MILLION = Shape(users=1_400_000, items=90_000, interactions=10_000_000)
CORE = 5
WALL_SECONDS = 5.0


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


def main() -> None:
    """Measure the ways side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    shape, repeats = (SMOKE, 1) if options.smoke else (TEN_MILLION, options.repeats)
    sequences = long_tailed_sequences(shape)
    items = sequences.items
    users = np.repeat(np.arange(len(sequences.offsets) - 1), np.diff(sequences.offsets))
    part = len(users) // 100
    assert k_core(users, items, CORE, CORE)[0].sum() == by_groups(users, items)
    assert k_core(users[:part], items[:part], CORE, CORE)[0].sum() == by_counters(users[:part], items[:part])
    in_memory = side_by_side(
        {
            "microlens": lambda: k_core(users, items, CORE, CORE),
            "pandas": lambda: by_groups(users, items),
            "microlens, a hundredth": lambda: k_core(users[:part], items[:part], CORE, CORE),
            "counters, a hundredth": lambda: by_counters(users[:part], items[:part]),
        },
        repeats,
    )
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
            what=f"k_core of {len(users):,} interactions",
            measured=in_memory["microlens"].wall_seconds,
            unit="s",
            bound="at most",
            reach=WALL_SECONDS,
        )
    ]
    print_result("subsets", options, [], {"in memory": in_memory, "whole command": whole}, lines)


if __name__ == "__main__":
    main()
