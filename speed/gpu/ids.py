"""Training of SASRec on item ids, through the trainer of a run built from a configuration."""

from collections.abc import Iterator
from contextlib import closing

from microlens.runs.train import trainer_of
from speed.gpu.bench import Bench, Case, Figures
from speed.gpu.worlds import endless
from speed.measure import made_run


def cases(bench: Bench) -> Iterator[Case]:
    """Vector sizes, losses and precisions."""
    for dim in bench.sizes.dims:
        for loss in ("in-batch-softmax", "full-softmax"):
            for precision in ("fp32", "bf16"):
                yield (
                    f"D={dim} {loss} {precision}",
                    lambda dim=dim, loss=loss, precision=precision: steps(bench, dim, loss, precision),
                )


def steps(bench: Bench, dim: int, loss: str, precision: str) -> Figures:
    """Steps on batches of MicroLens-100K's shape, the batches being made as in a run."""
    run = made_run(
        bench.folder / "ids", bench.sizes.shape,
        model={"name": "sasrec", "dim": dim, "dropout": 0.1},
        train={"batch_size": bench.sizes.batch, "loss": loss, "precision": precision},
        device=bench.device.type,
    )  # fmt: skip
    trainer, _ = trainer_of(run)
    with closing(endless(trainer)) as batches:
        figures = bench.steps(trainer, batches, rate=f"{precision}_teraflops")
    return {"users_per_batch": bench.sizes.batch, **figures}
