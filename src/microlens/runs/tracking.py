"""Optional logging of training with W&B or MLflow; a failure of the service never stops training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from microlens.config.run_config import RunConfig
from microlens.config.toml_files import flattened
from microlens.errors import InputError

Say = Callable[[str], None]
OnEpoch = Callable[[dict[str, Any]], None]


class Service:
    """A logging service; it is not called again after its first error.

    Args:
        name: name of the service, for messages.
        say: called once with a message if the service fails.
    """

    def __init__(self, name: str, say: Say) -> None:
        self.name, self.say, self.works = name, say, True

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
    begun: list[tuple[Service, OnEpoch, Callable[[], Any]]] = []
    if config is not None and config.track.wandb is not None:
        begun.append(_wandb(config, Service("wandb", say)))
    if config is not None and config.track.mlflow is not None:
        begun.append(_mlflow(config, Service("mlflow", say)))

    def send(line: dict[str, Any]) -> None:
        for service, log, _ in begun:
            service.attempt(log, line)

    try:
        yield send
    finally:
        for service, _, end in begun:
            service.attempt(end)


def _wandb(config: RunConfig, service: Service) -> tuple[Service, OnEpoch, Callable[[], Any]]:
    library = _library("wandb")
    name = config.output.resolve().name
    begin = {
        "project": config.track.wandb,
        "name": name,
        "id": config.hash,
        "resume": "allow",
        "config": _facts(config),
    }
    run = service.attempt(library.init, **begin)
    return service, lambda line: run.log(_values(line), step=line["epoch"]), lambda: run.finish()


def _mlflow(config: RunConfig, service: Service) -> tuple[Service, OnEpoch, Callable[[], Any]]:
    library = _library("mlflow")
    service.attempt(library.set_experiment, config.track.mlflow)
    service.attempt(library.start_run, run_name=config.output.resolve().name)
    service.attempt(library.log_params, _facts(config))

    def log(line: dict[str, Any]) -> None:
        plain = {
            name.replace("@", "_at_"): value for name, value in _values(line).items()
        }  # MLflow does not allow @ in names
        library.log_metrics(plain, step=line["epoch"])

    return service, log, library.end_run


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
