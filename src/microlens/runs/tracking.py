"""Optional logging of training with W&B or MLflow; a failure of the service never stops training."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from microlens.config.run_config import RunConfig
from microlens.config.toml_files import flattened
from microlens.errors import InputError
from microlens.files.writing import write_text
from microlens.runs.folder import TRACKED

Say = Callable[[str], None]
OnEpoch = Callable[[dict[str, Any]], None]


class Service:
    """A logging service; after its first error nothing is logged with it, and what was begun is ended.

    Args:
        name: name of the service, for messages.
        say: called once with a message if the service fails.
    """

    def __init__(self, name: str, say: Say) -> None:
        self.name, self.say, self.works, self.begun = name, say, True, False

    def attempt(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call ``work`` and return its result; None if this or an earlier call failed."""
        if not self.works:
            return None
        try:
            return work(*arguments, **named)
        except Exception as error:
            self.works = False
            self.say(
                f"{self.name} failed and is no longer used: {error}. Training continues; metrics.jsonl has all metrics."
            )
            return None

    def begin(self, work: Callable[..., Any], **named: Any) -> Any:
        """Call ``work``, which begins a run of the service; returns its result, None if it failed."""
        found = self.attempt(work, **named)
        self.begun = self.works
        return found

    def end(self, work: Callable[[], Any]) -> None:
        """Call ``work``, which ends the run of the service, if one was begun."""
        if self.begun and self.works:
            self.attempt(work)
        elif self.begun:
            with suppress(Exception):  # an error was said before
                work()


Begun = tuple[Service, OnEpoch, Callable[[], Any]]
"""A service, and the functions that log an epoch with it and end its run."""


@contextmanager
def tracked(config: RunConfig | None, say: Say) -> Iterator[OnEpoch]:
    """Log training with the services named in ``config.track``; no logging if ``config`` is None.

    Args:
        config: configuration of the run.
        say: called with a message if a service fails.

    Yields:
        A function to call with every line of ``metrics.jsonl``.

    Raises:
        InputError: the package of a service is not installed.
    """
    if config is None:
        yield lambda line: None
        return
    named = config.track.model_dump(exclude_none=True)
    libraries = {name: _library(name) for name in _BEGIN if name in named}  # all of them, before a run is begun
    begun: list[Begun] = []

    def send(line: dict[str, Any]) -> None:
        for service, log, _ in begun:
            service.attempt(log, line)

    try:
        for name, library in libraries.items():
            begun.append(_BEGIN[name](config, library, Service(name, say)))
        yield send
    finally:
        for service, _, end in begun:
            service.end(end)


def _wandb(config: RunConfig, library: ModuleType, service: Service) -> Begun:
    name = config.output.resolve().name
    begin = {
        "project": config.track.wandb,
        "name": name,
        "id": _id_of(config.output),
        "resume": "allow",
        "config": _facts(config),
    }
    run = service.begin(library.init, **begin)
    return service, lambda line: run.log(_values(line), step=line["epoch"]), lambda: run.finish()


def _id_of(folder: Path) -> str:
    """The id under which a resumed run goes on, kept in the run folder; a fresh start gets another."""
    path = folder / TRACKED
    if not path.exists():
        write_text(path, secrets.token_hex(8) + "\n")
    return path.read_text(encoding="utf-8").strip()


def _mlflow(config: RunConfig, library: ModuleType, service: Service) -> Begun:
    service.attempt(library.set_experiment, config.track.mlflow)
    service.begin(library.start_run, run_name=config.output.resolve().name)
    service.attempt(library.log_params, _facts(config))

    def log(line: dict[str, Any]) -> None:
        plain = {
            name.replace("@", "_at_"): value for name, value in _values(line).items()
        }  # MLflow does not allow @ in names
        library.log_metrics(plain, step=line["epoch"])

    return service, log, library.end_run


_BEGIN = {"wandb": _wandb, "mlflow": _mlflow}


def _values(line: dict[str, Any]) -> dict[str, float]:
    return {"loss/train": line["loss"], **{f"valid/{name}": value for name, value in line["valid"].items()}}


def _facts(config: RunConfig) -> dict[str, Any]:
    """The configuration by dotted name, without what says where to log and what to tune."""
    return flattened(config.model_dump(mode="json", exclude={"track", "tune"}))


def _library(service: str) -> ModuleType:
    try:
        return import_module(service)
    except ImportError:
        raise InputError(
            f"track.{service} is set, but {service} is not installed; install it with: pip install {service}, or leave "
            "that key out."
        ) from None
