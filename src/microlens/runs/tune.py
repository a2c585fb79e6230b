"""Hyperparameter search by the validation metric; the test targets are never read."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from microlens.config.run_config import RunConfig
from microlens.data.dataset import Dataset
from microlens.errors import InputError
from microlens.evaluation.metrics import all_metrics
from microlens.evaluation.ranking import rank_targets
from microlens.files.writing import lock_folder, write_text
from microlens.runs.assembly import Experiment, build_experiment, check_weights, use_caches
from microlens.runs.search_study import REMEDY, check_database, distribution, installed_optuna, plain_errors, storage_of
from microlens.runs.train import trainer_of

if TYPE_CHECKING:
    import optuna

TRIALS_BEFORE_PRUNING, EPOCHS_BEFORE_PRUNING = 4, 2
OnTrial = Callable[[int, str], None]
_SEARCHABLE = ("model", "encoder", "train")


@dataclass(frozen=True, kw_only=True)
class Found:
    """Result of a search: the best configuration, its validation metric, and a table of all trials."""

    config: RunConfig
    value: float
    trials: pl.DataFrame


@dataclass(frozen=True, kw_only=True)
class EndedTrial:
    """A trial that has ended.

    Attributes:
        options: the values of the ranges, by dotted name.
        metrics: the validation metric after each epoch; one number for a model that is fitted at once.
        pruned: whether it was stopped for being below the median.
        seconds: time that it took.
    """

    options: dict[str, Any]
    metrics: list[float]
    pruned: bool
    seconds: float


class Search:
    """Searches the ranges of a configuration's ``[tune]`` table with TPE (Bergstra et al. 2011).

    A trial is pruned if its best validation metric up to an epoch is below the median of those that complete trials had
    at that epoch (Optuna's median rule). The study is stored in ``study.db``. A search that was killed restarts its
    unfinished trial, whose run resumes, and gives the same trials as an uninterrupted search.

    Args:
        path: configuration with a ``[tune]`` table of ranges by dotted name.
        overrides: assignments ``key=value``, as for a run.
        output: folder of the study; ``tune`` in the configuration's output by default.

    Raises:
        InputError: Optuna is not installed, a range is invalid or names an unknown option, the configuration is a
            fusion, or the folder holds another search.
    """

    def __init__(self, path: str | Path, overrides: list[str] | None = None, output: str | Path | None = None) -> None:
        self.path, self.overrides = Path(path), overrides or []
        self.base = RunConfig.load(self.path, self.overrides)
        self.output = self.base.output / "tune" if output is None else Path(output)
        if not self.base.tune:
            raise InputError(
                f"{path} has no [tune] table; add ranges to it, such as "
                '"train.lr" = { low = 1e-4, high = 1e-2, log = true }.'
            )
        if self.base.parts:
            raise InputError(
                f"{path} is a fusion, which is not searched; search the configurations of its parts, and write what is "
                "found into its [[parts]]."
            )
        _check_searchable(self.base.tune)
        self.base.model_copy(update={"output": self.output}).check_output()
        for values in ({name: range_.ends[end] for name, range_ in self.base.tune.items()} for end in (0, 1)):
            build_experiment(self._config(values))  # fail early if it cannot be built
        self.optuna = installed_optuna()
        self._distributions = {name: distribution(range_) for name, range_ in self.base.tune.items()}
        self.study: optuna.Study

    def run(self, trials: int, *, seconds: float | None = None, on_trial: OnTrial | None = None) -> Found:
        """Search until the number of trials or the time limit is reached.

        Args:
            trials: total number of trials, including those of earlier calls.
            seconds: time after which no new trial starts.
            on_trial: called with the number of a trial and "started", or its outcome.

        Raises:
            InputError: another process uses the folder, or no trial completed.
        """
        on_trial = on_trial or (lambda number, event: None)
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._opened():
            while self._counted() < trials and (deadline is None or time.monotonic() < deadline):
                self.study.sampler = self._sampler()
                trial = self.study.ask(self._distributions)
                on_trial(trial.number, "started")
                on_trial(trial.number, self._try(trial))
            return self._found()

    def ended(self) -> list[EndedTrial]:
        """The trials that have ended, in order, without those that failed.

        Raises:
            InputError: another process uses the folder.
        """
        states = self.optuna.trial.TrialState
        with self._opened():
            trials = self.study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
        return [
            EndedTrial(
                options=trial.params,
                metrics=list(trial.intermediate_values.values()) or [trial.user_attrs["value"]],
                pruned=trial.state is states.PRUNED,
                seconds=trial.user_attrs["seconds"],
            )
            for trial in trials
        ]

    def add(self, trials: Sequence[EndedTrial]) -> None:
        """Take over the first trials of the same search from another machine; :meth:`run` goes on after them.

        Raises:
            InputError: another process uses the folder, the search has trials already, or a value is out of its range.
        """
        states = self.optuna.trial.TrialState
        with self._opened():
            if self.study.get_trials(deepcopy=False):
                raise InputError(f"{self.output} has trials already; those of another machine have to come first.")
            for trial in trials:
                try:
                    taken = self.optuna.trial.create_trial(
                        state=states.PRUNED if trial.pruned else states.COMPLETE,
                        value=None if trial.pruned else max(trial.metrics),
                        params=trial.options,
                        distributions=self._distributions,
                        intermediate_values=dict(enumerate(trial.metrics, 1)),
                        user_attrs={
                            "value": max(trial.metrics), "epochs": len(trial.metrics), "seconds": trial.seconds
                        },
                    )  # fmt: skip
                except ValueError as error:
                    raise InputError(f"a trial does not fit the ranges of {self.path}: {error}") from None
                self.study.add_trial(taken)

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Hold the folder and its study."""
        self.output.mkdir(parents=True, exist_ok=True)
        with lock_folder(self.output), plain_errors(self.output / "study.db"):
            self.study = self._open()
            yield

    def _open(self) -> "optuna.Study":
        library = self.optuna
        request = hashlib.sha256(
            json.dumps(
                [self.base.hash, self.base.model_dump(mode="json")["tune"], Dataset(self.base.dataset).checksum]
            ).encode()
        ).hexdigest()
        database = self.output / "study.db"
        begun = database.exists()
        if begun:
            check_database(database)
        try:
            study: optuna.Study = library.create_study(
                storage=storage_of(database), study_name="microlens", load_if_exists=True, direction="maximize",
                pruner=library.pruners.MedianPruner(TRIALS_BEFORE_PRUNING, EPOCHS_BEFORE_PRUNING),
            )  # fmt: skip
        except Exception as error:
            if not begun:
                raise
            # A valid SQLite database, but not one of Optuna.
            raise InputError(f"{database} holds no readable study ({type(error).__name__}); {REMEDY}.") from None
        if study.user_attrs.get("request", request) != request:
            raise InputError(
                f"{self.output} holds a search with another configuration, other ranges or other data; choose "
                "another folder with output=FOLDER, or remove it."
            )
        study.set_user_attr("request", request)
        for trial in study.get_trials(states=(library.trial.TrialState.RUNNING,)):  # left by a killed search
            study.tell(trial.number, state=library.trial.TrialState.FAIL)
        return study

    def _sampler(self) -> "optuna.samplers.BaseSampler":
        """Return a sampler seeded by the number of ended trials, so that a restarted trial draws the same values."""
        seeds = np.random.SeedSequence([self.base.seed, self._counted()])
        sampler: optuna.samplers.BaseSampler = self.optuna.samplers.TPESampler(seed=int(seeds.generate_state(1)[0]))
        return sampler

    def _counted(self) -> int:
        """The number of trials that ended without being killed."""
        states = self.optuna.trial.TrialState
        ended = self.study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED, states.FAIL))
        return sum(trial.state is not states.FAIL or "fault" in trial.user_attrs for trial in ended)

    def _try(self, trial: "optuna.Trial") -> str:
        states = self.optuna.trial.TrialState
        config = self._config(trial.params)
        started = time.monotonic()
        try:
            value, epochs, pruned = self._validate(config, trial)
        except InputError as error:  # such as a non-finite loss
            trial.set_user_attr("fault", str(error))
            self.study.tell(trial, state=states.FAIL)
            return f"failed: {error}"
        trial.set_user_attr("value", value)
        trial.set_user_attr("epochs", epochs)
        trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
        if pruned:
            self.study.tell(trial, state=states.PRUNED)
        else:
            self.study.tell(trial, value)
        said = f"{config.train.select} {100 * value:.2f} % on validation"
        return f"{said}, pruned after epoch {epochs}" if pruned else said

    def _validate(self, config: RunConfig, trial: "optuna.Trial") -> tuple[float, int, bool]:
        """The best validation metric of a configuration, its number of epochs, and whether it was pruned."""
        config.output.mkdir(parents=True, exist_ok=True)
        run = build_experiment(config)
        use_caches(run)
        if run.model.fits_at_once:
            torch.manual_seed(config.seed)
            run.model.fit(run.split)
            check_weights(run.model, run.best)
        elif any(parameter.requires_grad for parameter in run.model.parameters()):
            return self._train(run, trial)
        ranks = rank_targets(run.model, run.content, run.split, "valid", run.device)
        return all_metrics(ranks, run.split.target_users("valid"))[config.train.select], 0, False

    def _train(self, run: Experiment, trial: "optuna.Trial") -> tuple[float, int, bool]:
        trainer, _ = trainer_of(run)
        select = run.config.train.select
        for line in trainer.progress.log:  # epochs before the trial was killed
            trial.report(line["valid"][select], line["epoch"])
        if trainer.progress.log and trial.should_prune():  # killed before the study knew
            return trainer.progress.best, trainer.progress.epoch, True

        def judge(line: dict[str, Any]) -> None:
            trial.report(line["valid"][select], line["epoch"])
            if trial.should_prune():
                raise self.optuna.TrialPruned

        pruned = True
        with suppress(self.optuna.TrialPruned):
            trainer.fit(lambda progress, loss: None, judge)
            pruned = False
        return trainer.progress.best, trainer.progress.epoch, pruned

    def _config(self, values: dict[str, Any]) -> RunConfig:
        assignments = [f"{name}={json.dumps(value)}" for name, value in values.items()]
        config = RunConfig.load(self.path, [*self.overrides, *assignments])
        if "train.loss" in values and not config.train.samples_negatives:  # other losses of the search may sample
            config = config.model_copy(update={"train": config.train.model_copy(update={"num_negatives": None})})
        return config.model_copy(update={"output": self.output / "trials" / config.hash, "tune": {}})

    def _found(self) -> Found:
        """Write ``trials.csv`` and ``best.toml``."""
        trials = self.study.get_trials(deepcopy=False)
        rows = [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                self.base.train.select: trial.user_attrs.get("value"),
                "epochs": trial.user_attrs.get("epochs"),
                "seconds": trial.user_attrs.get("seconds"),
                **{name: trial.params.get(name) for name in self.base.tune},
                "fault": trial.user_attrs.get("fault"),
            }
            for trial in trials
        ]
        table = pl.DataFrame(rows, infer_schema_length=None, strict=False)
        write_text(self.output / "trials.csv", table.write_csv())
        complete = [trial for trial in trials if trial.state is self.optuna.trial.TrialState.COMPLETE]
        if not complete:
            faults = [trial.user_attrs["fault"] for trial in trials if "fault" in trial.user_attrs]
            raise InputError(f"no trial completed{f'; the last one failed: {faults[-1]}' if faults else ''}")
        best = max(complete, key=lambda trial: trial.values[0])
        config = self._config(best.params).model_copy(update={"output": self.output / "best"})
        write_text(self.output / "best.toml", config.toml())
        return Found(config=config, value=best.values[0], trials=table)


def _check_searchable(ranges: Mapping[str, Any]) -> None:
    for name in ranges:
        if name == "train.select":
            raise InputError("tune.'train.select': it is the metric that trials are compared by; set it in [train].")
        if name.partition(".")[0] not in _SEARCHABLE:
            raise InputError(
                f"tune.'{name}': trials have to differ in the model alone, on the same data under the same protocol; "
                f"accepted are options of {', '.join(_SEARCHABLE)}."
            )
