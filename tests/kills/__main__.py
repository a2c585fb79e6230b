"""The command line of killing."""

import argparse
import json
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

from tests.kills.disturbing import fill, kill, undisturbed
from tests.kills.jobs import JOBS, make_world


def main() -> int:
    """Disturb every command; the exit status says whether anything came out otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description="Kill commands, and fill their disk.")
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="decides when")
    parser.add_argument("--only", default=",".join(JOBS), help="commands, separated by commas")
    parser.add_argument("--json", type=Path, help="a file for what was done and found")
    chosen = parser.parse_args()
    names = chosen.only.split(",")
    if unknown := set(names) - set(JOBS):
        parser.error(f"{', '.join(sorted(unknown))} is no command; there are {', '.join(JOBS)}")
    found = {}
    with tempfile.TemporaryDirectory(prefix="microlens-kills-") as name:
        folder = Path(name)
        make_world(folder / "world")
        for name in names:
            found[name] = disturb(name, folder, chosen.kills, chosen.seed)
            faults = [fault for told in found[name].values() if isinstance(told, dict) for fault in told["faults"]]
            print(
                f"{name}: {'; '.join(faults) if faults else 'the same numbers, and nothing else touched'}", flush=True
            )
            found[name]["right"] = not faults
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(not all(of_job["right"] for of_job in found.values()))


def disturb(name: str, folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill a command, then fill its disk."""
    job, world = JOBS[name], folder / "world"
    right = undisturbed(job, world, folder / "undisturbed")
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    told: dict[str, object] = {"seconds": round(right.seconds, 1), "bytes": right.written}
    told["kills"] = vars(kill(job, world, folder / "killed", right, kills, random))
    try:
        told["full disk"] = vars(fill(job, world, folder / "disk", right))
    except PermissionError as error:
        print(f"{name}: {error}; a full disk is left out", flush=True)
        told["full disk"] = str(error)
    for copy in ("undisturbed", "killed"):
        shutil.rmtree(folder / copy)
    return told


if __name__ == "__main__":
    sys.exit(main())
