"""A release whose titles are dealt out at random among its items: the control of what titles add to ids.

    python results/permute_titles.py RELEASE OUT [--seed 0]

OUT gets the interactions of RELEASE and its titles file with permuted titles. Models of ids are the same on both; what
one that reads titles has on OUT, it does not owe to what the titles say.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import polars as pl


def main() -> None:
    """Write the permuted release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    (pairs,) = options.release.glob("*_pairs.*")
    (titles,) = options.release.glob("*_titles.csv")
    options.out.mkdir(parents=True)
    shutil.copy(pairs, options.out)
    table = pl.read_csv(titles)
    order = np.random.default_rng(options.seed).permutation(len(table))
    table.with_columns(table["title"].gather(order)).write_csv(options.out / titles.name, quote_style="non_numeric")


if __name__ == "__main__":
    main()
