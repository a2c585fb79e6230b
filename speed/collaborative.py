"""What the other recommenders cost at the shape of MicroLens-100K, beside the library implicit, printed as JSON.

    python speed/collaborative.py [--smoke] [--steps 20] [--repeats 3]

Matrix factorization at d = 64, ours and that of the library implicit in turn: an epoch with the BPR loss over one
sampled item a pair (`dssm` with train.loss = "bpr", beside implicit's gradient descent pair by pair), and ranking the
test targets of all users with the same factors, where both have to find the same HR@20. Then, without a peer, training
steps of DSSM (batches of 1,024) and LightGCN (of 128) on item ids at d = 512, and ranking the whole catalogue with NFM
and DeepFM at d = 64. What the research code was measured at for two of them stands in this file as constants: like
machine, two cores, wall time.

Everything runs with one thread, each way in a process of its own. SASRec with the softmax over the whole catalogue is
measured beside RecTools in peer_libraries.py.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from contestants import Turned, Turns, contestant, in_turns
from measure import MICROLENS_100K, SMOKE, Line, made_run, print_result

from microlens.evaluation.metrics import all_metrics
from microlens.evaluation.ranking import ROWS_AT_ONCE, encode_catalogue, rank_targets, user_states
from microlens.recommenders.counting import user_items
from microlens.recommenders.implicit_library import implicit_module, library_seed, library_threads
from microlens.runs.assembly import Experiment

MEBIBYTE = 1024**2
USERS_RANKED = 512
# Seconds an epoch of DSSM, and seconds a step of LightGCN, of the original research code (the least of those measured).
ORIGINAL_DSSM_EPOCH, ORIGINAL_LIGHTGCN_STEP = 330.0, 12.0
FACTORS = 64
WAYS: dict[str, dict[str, Any]] = {
    "bpr": {
        "model": {"name": "dssm", "dim": FACTORS},
        "train": {"batch_size": 1024, "loss": "bpr", "num_negatives": 1},
    },
    "ranking": {"model": {"name": "bpr_mf", "dim": FACTORS, "iterations": 1}, "encoder": None, "train": {}},
    "dssm": {"model": {"name": "dssm", "dim": 512}, "train": {"batch_size": 1024}},
    "lightgcn": {"model": {"name": "lightgcn", "dim": 512}, "train": {"batch_size": 128, "weight_decay": 0.0}},
    "nfm": {"model": {"name": "nfm", "dim": 64}, "train": {}},
    "deepfm": {"model": {"name": "deepfm", "dim": 64}, "train": {}},
}


def run_of(folder: str, smoke: bool, way: str) -> Experiment:
    """The run of a contestant, with fixed weights and one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return made_run(Path(folder), SMOKE if smoke else MICROLENS_100K, **WAYS[way])


def bpr_epochs(turns: Turns, folder: str, smoke: bool) -> None:
    """Epochs of our matrix factorization, making the batches included."""
    from training import trainer_of

    run = run_of(folder, smoke, "bpr")
    trainer = trainer_of(run, Path(folder))

    def train() -> None:
        for batch in trainer.batches():
            float(trainer.step(batch))

    turns.take(train, pairs=len(run.split.train_events[0]))


def implicit_bpr_epochs(turns: Turns, folder: str, smoke: bool) -> None:
    """Epochs of implicit's matrix factorization; a second call of its fit goes on with the factors of the first."""
    matrix = user_items(run_of(folder, smoke, "bpr").split)
    with library_threads():
        model = implicit_bpr()
        turns.take(lambda: model.fit(matrix, show_progress=False), pairs=matrix.nnz)


def implicit_bpr() -> Any:
    """One epoch of BPR by implicit, with the library's defaults, as `bpr_mf` builds it."""
    library = implicit_module("cpu.bpr", "this benchmark")
    return library.BayesianPersonalizedRanking(
        factors=FACTORS, iterations=1, learning_rate=0.01, regularization=0.01, num_threads=1,
        random_state=library_seed(),
    )  # fmt: skip


def rank_ours(turns: Turns, folder: str, smoke: bool) -> None:
    """Rank the test targets of all users by the factors that implicit fitted; the HR@20 found is a fact."""
    run = run_of(folder, smoke, "ranking")
    run.model.fit(run.split)

    def rank() -> float:
        ranks = rank_targets(run.model, run.content, run.split, "test", run.device)
        return all_metrics(ranks, run.split.target_users("test"))["HR@20"]

    turns.take(rank, hit_rate=rank())


def rank_by_implicit(turns: Turns, folder: str, smoke: bool) -> None:
    """The same by implicit's own evaluation; its precision is the hit rate, for every user has one target."""
    from scipy import sparse

    split = run_of(folder, smoke, "ranking").split
    evaluate = implicit_module("evaluation", "this benchmark").ranking_metrics_at_k
    with library_threads():
        model = implicit_bpr()
        model.fit(user_items(split), show_progress=False)
        users = split.target_users("test")
        history = split.history("test", users)
        rows, places = history.nonzero()
        seen = _ones(sparse, users[rows], history[rows, places] - 1, split.num_users, split.num_items)
        targets = _ones(sparse, users, split.targets("test") - 1, split.num_users, split.num_items)

        def rank() -> float:
            return float(evaluate(model, seen, targets, K=20, show_progress=False, num_threads=1)["precision"])

        turns.take(rank, hit_rate=rank())


def _ones(sparse: Any, rows: Any, columns: Any, height: int, width: int) -> Any:
    return sparse.csr_matrix((torch.ones(len(rows)).numpy(), (rows, columns)), shape=(height, width))


def train_steps(turns: Turns, folder: str, smoke: bool, way: str) -> None:
    """Steps of the trainer."""
    from training import trainer_of

    trainer = trainer_of(run_of(folder, smoke, way), Path(folder))
    batches = trainer.batches()
    turns.take(lambda: float(trainer.step(next(batches))), steps_per_epoch=trainer.steps_per_epoch)


def rank_some(turns: Turns, folder: str, smoke: bool, way: str) -> None:
    """Score the whole catalogue for some users by a model that scores pairs."""
    run = run_of(folder, smoke, way)
    model, split = run.model.eval(), run.split
    catalogue = encode_catalogue(model, run.content, split.num_items, run.device)
    users = torch.arange(min(USERS_RANKED, split.num_users))
    history = torch.from_numpy(split.inputs("test", users.numpy()).astype("int64"))

    @torch.inference_mode()
    def rank() -> None:
        states = user_states(model, catalogue, users, history)
        for begin in range(0, len(users), ROWS_AT_ONCE):
            model.score(states[begin : begin + ROWS_AT_ONCE], catalogue)

    turns.take(rank, users=len(users))


def beside_implicit(ways: dict[str, list[str]], repeats: int) -> dict[str, Any]:
    """The costs of ours and of implicit's, in turn."""
    turned = in_turns(ways, repeats, warm_up=1)
    costs = {name: way.cost for name, way in turned.items()}
    return {
        "costs": costs,
        "facts": {name: way.facts for name, way in turned.items()},
        "times_as_fast_as_implicit": round(costs["implicit"].cpu_seconds / costs["microlens"].cpu_seconds, 3),
    }


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures.

    Raises:
        AssertionError: the same factors rank otherwise in implicit.
    """
    where = {"folder": folder, "smoke": options.smoke}
    training = {"microlens": contestant(bpr_epochs, **where), "implicit": contestant(implicit_bpr_epochs, **where)}
    ranking = {"microlens": contestant(rank_ours, **where), "implicit": contestant(rank_by_implicit, **where)}
    results = {"bpr": beside_implicit(training, options.repeats), "ranking": beside_implicit(ranking, options.repeats)}
    ours, theirs = (results["ranking"]["facts"][name]["hit_rate"] for name in ("microlens", "implicit"))
    assert abs(ours - theirs) <= 1e-4, f"HR@20 differs: {ours} and {theirs}"  # ties count against ours
    for way in ("dssm", "lightgcn"):
        turned = _alone(contestant(train_steps, **where, way=way), options.steps)
        steps = turned.facts["steps_per_epoch"]
        results[way] = {**_figures(turned), "steps_per_epoch": steps, "epoch": turned.cost.over(1 / steps)}
    for way in ("nfm", "deepfm"):
        turned = _alone(contestant(rank_some, **where, way=way), options.repeats)
        results[way] = {**_figures(turned), "users": turned.facts["users"]}
    return results


def _alone(command: list[str], repeats: int) -> Turned:
    return in_turns({"microlens": command}, repeats, warm_up=1)["microlens"]


def _figures(turned: Turned) -> dict[str, Any]:
    return {"cost": turned.cost, "peak_bytes": turned.peak_bytes}


def lines_of(results: dict[str, Any]) -> list[Line]:
    """The lines to reach; CPU seconds of one thread against the research code's wall seconds with two."""
    return [
        *(
            Line(
                what=f"{what}, CPU time, implicit's over ours", unit="x", bound="at least", reach=1.0,
                measured=results[way]["times_as_fast_as_implicit"],
            )
            for way, what in {"bpr": "BPR, an epoch d=64", "ranking": "ranking the targets of all users d=64"}.items()
        ),
        Line(
            what="DSSM, an epoch, times as fast as the original code", unit="x", bound="at least", reach=5.0,
            measured=ORIGINAL_DSSM_EPOCH / results["dssm"]["epoch"].cpu_seconds,
        ),
        Line(
            what="LightGCN, times as fast as the original code", unit="x", bound="at least", reach=50.0,
            measured=ORIGINAL_LIGHTGCN_STEP / results["lightgcn"]["cost"].cpu_seconds,
        ),
        Line(
            what="LightGCN, peak memory", measured=results["lightgcn"]["peak_bytes"] / MEBIBYTE, unit="MiB",
            bound="at most", reach=2.5e9 / MEBIBYTE,
        ),
        *(
            Line(
                what=f"{way}, ranking {MICROLENS_100K.items:,} items, peak memory", unit="MiB", bound="at most",
                measured=results[way]["peak_bytes"] / MEBIBYTE, reach=2e9 / MEBIBYTE,
            )
            for way in ("nfm", "deepfm")
        ),
    ]  # fmt: skip


def main() -> None:
    """Prepare the interactions and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny data")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.smoke:
        options.steps = options.repeats = 1
    with tempfile.TemporaryDirectory() as folder:
        run_of(folder, options.smoke, "nfm")
        results = measure(Path(folder), options)
    print_result("collaborative", options, [1], results, lines_of(results))


if __name__ == "__main__":
    main()
