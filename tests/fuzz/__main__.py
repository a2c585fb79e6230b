"""The command line of the fuzzer."""

import argparse
import itertools
import json
import sys
import tempfile
from pathlib import Path

from tests.fuzz.runner import Finding, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz for so long, or run one case; the exit status says whether anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Give damaged files to every reader.")
    parser.add_argument("--minutes", type=float, default=1.0, help="of processor time, shared by all targets")
    parser.add_argument("--seed", type=int, default=0, help="decides every case, with the target and its number")
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, separated by commas")
    parser.add_argument("--case", type=int, help="run this case alone and print its traceback")
    parser.add_argument(
        "--limit", type=float, default=20.0, help="seconds of work, or of doing nothing, after which a case hangs"
    )
    parser.add_argument("--folder", type=Path, help="where inputs of findings stay; a temporary folder by default")
    parser.add_argument("--json", type=Path, help="a file for counts and findings")
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="microlens-fuzz-"))
    names = chosen.only.split(",")
    if unknown := set(names) - set(TARGETS):
        parser.error(f"{', '.join(sorted(unknown))} is no target; there are {', '.join(TARGETS)}")
    results = []
    for name in names:
        numbers = itertools.count() if chosen.case is None else [chosen.case]
        seconds = 60 * chosen.minutes / len(names)
        result = fuzz(TARGETS[name], chosen.seed, numbers, folder, limit=chosen.limit, seconds=seconds, on_finding=show)
        print(f"{name}: {result.cases:,} cases in {result.seconds:.0f} s, {dict(result.outcomes.most_common())}")
        results.append(result)
        if chosen.case is not None:
            print(*(finding.trace for finding in result.findings), sep="\n")
    found = sum(len(result.findings) for result in results)
    cases = sum(result.cases for result in results)
    print(f"{cases:,} cases, {found:,} findings; their inputs are in {folder}/findings")
    if chosen.json:
        chosen.json.write_text(json.dumps([result.as_json() for result in results], indent=1) + "\n")
    return int(found > 0)


def show(finding: Finding) -> None:
    """One line a finding."""
    told = f"{finding.kind} at {finding.where}: {finding.what[:200]} [{finding.done[:100]}]"
    print(f"{finding.target} {finding.case}: {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
