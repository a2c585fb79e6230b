"""Write the winner of each finished search as a configuration, ROW-tuned.toml beside the searched one.

    python results/search/write_configs.py [--trials 8]

The batch size is that of the trials, because the learning rate was found with it. Training may last several times the
epochs of a trial, fewer where they cost most, with five epochs of patience, so that no row is cut short.
"""

import argparse
import json
import re
from typing import Any

from run import BUDGETS, CONFIGS, METRIC, RESULTS

PATIENCE = 5
EPOCHS = 60
FEWER_EPOCHS = {"nfm": 8, "deepfm": 8, "mmgcn-id": 10, "mmgcn-id-v": 10, "grcn-id": 16, "grcn-id-v": 16}


def winner(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The trial with the best epoch."""
    return max(trials, key=lambda trial: max(trial[METRIC]))


def settings_of(trial: dict[str, Any]) -> dict[str, Any]:
    """The options of a trial that have an effect: a softmax loss samples no negatives."""
    options = dict(trial["options"])
    if options.get("train.loss") not in {None, "bpr"}:
        options.pop("train.num_negatives", None)
    return options


def tuned(row: str, text: str, trials: list[dict[str, Any]]) -> str:
    """The configuration ``text`` of a row with the options of the winner, without its ranges."""
    best = winner(trials)
    values = settings_of(best)
    values["train.batch_size"], values["train.patience"] = BUDGETS[row]["batch_size"], PATIENCE
    values["train.epochs"] = FEWER_EPOCHS.get(row, EPOCHS)
    text = text.partition("\n[tune]")[0].rstrip() + "\n"
    comment = f"# {text[2 : text.index(chr(10))].rstrip('.')}; settings of the best of {len(trials)} trials"
    comment += f" ({100 * max(best[METRIC]):.2f} % valid HR@10), see results/search.\n"
    text = comment + text.partition("\n")[2].replace(f'/{row}"', f'/{row}-tuned"')
    for name, value in values.items():
        text = with_value(text, *name.split("."), json.dumps(rounded(value)))
    if values.get("train.loss") not in {None, "bpr"}:
        text = re.sub(r"^num_negatives = .*\n", "", text, flags=re.MULTILINE)
    return text


def rounded(value: Any) -> Any:
    """A floating-point number with three significant digits."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def with_value(text: str, section: str, name: str, value: str) -> str:
    """The configuration with ``name = value`` in a section."""
    before, header, rest = text.partition(f"[{section}]\n")
    own, following, after = rest.partition("\n[")
    line = f"{name} = {value}"
    if re.search(rf"^{name} = ", own, re.MULTILINE):
        own = re.sub(rf"^{name} = .*$", line, own, flags=re.MULTILINE)
    else:
        own = own.rstrip("\n") + f"\n{line}\n"
    return before + header + own + following + after


def main() -> None:
    """Write the configurations of the rows whose search has ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    options = parser.parse_args()
    for row, trials in json.loads(RESULTS.read_text())["rows"].items():
        if len(trials) >= options.trials:
            text = (CONFIGS / f"{row}.toml").read_text()
            (CONFIGS / f"{row}-tuned.toml").write_text(tuned(row, text, trials))
            print(f"{row}-tuned")


if __name__ == "__main__":
    main()
