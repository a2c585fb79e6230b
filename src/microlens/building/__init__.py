"""Building objects from tables of options; the signature of a constructor is the schema of its options."""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from microlens.errors import InputError, shown

T = TypeVar("T")

LARGEST = 65_536
"""The largest integer accepted for an option; no model needs a larger one."""


def pick(table: Mapping[str, T], name: str, where: str) -> T:
    """Return the entry ``name`` of ``table``.

    Raises:
        InputError: there is no such entry; the message suggests the nearest one.
    """
    if name not in table:
        raise InputError(f"{where} is '{name}', which is unknown; {nearest(name, table)}")
    return table[name]


class LazyValues(Mapping[str, Any]):
    """Values by name, each computed when it is taken; a list of a million titles takes a while.

    Args:
        compute: functions that compute the values.
    """

    def __init__(self, compute: Mapping[str, Callable[[], Any]]) -> None:
        self._compute = dict(compute)

    def __getitem__(self, name: str) -> Any:
        return self._compute[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._compute

    def __iter__(self) -> Iterator[str]:
        return iter(self._compute)

    def __len__(self) -> int:
        return len(self._compute)

    def plus(self, name: str, value: object) -> "LazyValues":
        """These and one more."""
        return LazyValues({**self._compute, name: lambda: value})


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a constructor: its type, its default (MISSING if required) and its group.

    ``group`` is the name of the dataclass parameter that the option is a field of, None for a plain parameter.
    """

    type: Any
    default: Any
    group: str | None = None


def options_of(constructor: Callable[..., Any], given: Iterable[str]) -> dict[str, Option]:
    """Return the options of ``constructor``: parameters except ``given``; dataclasses are replaced by their fields.

    Raises:
        InputError: a parameter has no type annotation, or one that cannot be resolved.
    """
    hints = _annotations(constructor)
    options: dict[str, Option] = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if name in given or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name not in hints:
            raise InputError(f"{constructor.__qualname__} has a parameter '{name}' without a type; options need one.")
        if dataclasses.is_dataclass(hints[name]):
            types = get_type_hints(hints[name])
            options |= {
                field.name: Option(types[field.name], field.default, group=name)
                for field in dataclasses.fields(hints[name])
            }
        else:
            default = MISSING if parameter.default is inspect.Parameter.empty else parameter.default
            options[name] = Option(hints[name], default)
    return options


def _annotations(constructor: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(constructor if inspect.isfunction(constructor) else constructor.__init__)
    except (NameError, TypeError) as error:
        raise InputError(f"the types of {constructor.__qualname__} cannot be resolved ({error}).") from error


def build(constructor: Callable[..., T], options: Mapping[str, Any], given: Mapping[str, Any], where: str) -> T:
    """Call ``constructor`` with the user's ``options`` and those of the ``given`` values that it accepts.

    Args:
        constructor: its keyword-only parameters are either in ``given`` or options; the fields of a dataclass parameter
            are options, too.
        options: options from a configuration, validated against the annotations.
        given: values derived from the data (sizes, tables), by parameter name.
        where: the configuration table of the options, for messages.

    Raises:
        InputError: an option is unknown, missing or of the wrong type.
    """
    accepted = options_of(constructor, given)
    arguments = {name: given[name] for name in inspect.signature(constructor).parameters if name in given}
    grouped: dict[str, dict[str, Any]] = {option.group: {} for option in accepted.values() if option.group}
    for name, value in options.items():
        if name not in accepted:
            raise InputError(f"{where}.{name} is unknown; {nearest_option(name, accepted, where.partition('.')[0])}")
        option = accepted[name]
        checked = _checked(value, option, f"{where}.{name}")
        (grouped[option.group] if option.group else arguments)[name] = checked
    for name, option in accepted.items():
        if name not in options and option.default is MISSING:
            raise InputError(f"{where}.{name} is missing.")
    try:
        hints = _annotations(constructor)
        return constructor(**arguments, **{name: hints[name](**values) for name, values in grouped.items()})
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from None


def _checked(value: object, option: Option, name: str) -> Any:
    """Validate the type and the size of an option's value."""
    try:
        checked = TypeAdapter(option.type).validate_python(value, strict=True)
    except ValidationError as error:
        raise InputError(f"{name} is {shown(value)}: {error.errors()[0]['msg'].lower()}.") from None
    if isinstance(checked, float) and not math.isfinite(checked):
        raise InputError(f"{name} is {checked}; it must be a finite number.")
    if isinstance(checked, int) and abs(checked) > LARGEST:
        raise InputError(f"{name} is {shown(value)}; it must be at most {LARGEST:,}.")
    return checked


_CLOSE = 0.75  # minimum similarity; below that, a suggestion misleads more often than it helps
_LEAST_PREFIX = 3

# Alternative names of options: their own last part, and the names that other programs use.
OPTION_NAMED: dict[str, str] = {
    word: option
    for option, words in {
        "dataset": "dataset data data_dir data_path dataset_path",
        "output": "output output_dir output_path out out_dir save_dir run_dir",
        "seed": "seed random_seed random_state rng_seed",
        "protocol.require": "require",
        "protocol.min_length": "min_length min_len min_seq_len min_interactions",
        "protocol.max_length": "max_length",
        "protocol.max_history": "max_history max_len maxlen max_seq_len max_seq_length seq_len seq_length "
        "sequence_length history_length history_len max_history_length window",
        "protocol.split": "split split_mode holdout",
        "protocol.masked": "masked mask filter_seen",
        "protocol.min_item_count": "min_item_count min_item_freq min_count",
        "model.name": "model_name",
        "model.dim": "dim embedding_dim embedding_size embed_dim embed_size emb_dim emb_size hidden_size hidden_dim "
        "hidden_units d_model latent_dim factors num_factors n_factors",
        "model.blocks": "blocks num_blocks n_blocks num_layers n_layers",
        "model.layers": "layers",
        "model.heads": "heads num_heads n_heads num_attention_heads",
        "model.dropout": "dropout dropout_rate dropout_prob drop_rate drop hidden_dropout_prob",
        "encoder.name": "encoder_name backbone",
        "encoder.weights": "weights pretrained pretrained_weights",
        "train.epochs": "epochs epoch num_epochs n_epochs max_epochs num_train_epochs",
        "train.batch_size": "batch_size batch bs train_batch_size",
        "train.lr": "lr learning_rate learn_rate",
        "train.encoder_lr": "encoder_lr backbone_lr",
        "train.weight_decay": "weight_decay wd l2 l2_reg reg reg_weight regularization",
        "train.clip_norm": "clip_norm clip grad_clip clip_grad_norm max_grad_norm gradient_clip_val",
        "train.patience": "patience early_stopping early_stop early_stopping_patience",
        "train.select": "select metric valid_metric monitor",
        "train.precision": "precision amp fp16 bf16 mixed_precision",
        "train.device": "device gpu gpus cuda use_cuda use_gpu gpu_id",
        "train.compile": "compile torch_compile",
        "train.channels_last": "channels_last memory_format",
        "train.micro_batch": "micro_batch micro_batch_size",
        "train.norm_batch": "norm_batch",
        "train.negatives": "negatives",
        "train.loss": "loss loss_function loss_fn criterion",
        "train.num_negatives": "num_negatives n_negatives neg_num num_neg negative_samples",
        "train.gbce_calibration": "gbce_calibration gbce_t",
        "train.cache": "cache",
        "train.start_from": "start_from init_from resume_from checkpoint",
        "train.workers": "workers num_workers n_workers",
        "train.checkpoint_minutes": "checkpoint_minutes checkpoint_every save_every",
        "track.wandb": "wandb",
        "track.mlflow": "mlflow",
    }.items()
    for word in words.split()
}
# What became of options of earlier versions.
FORMER_OPTIONS = {
    "accelerate": 'it became three options: train.compile = true, train.channels_last = true, train.precision = "bf16".'
}
_ALWAYS_THERE = {"model.name", "model.dim", "encoder.name"}  # options of every model and encoder


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` if a known name is similar, else the list of accepted names."""
    names = sorted(known)
    found = _nearest(name, names)
    return f"did you mean '{found}'?" if found else f"accepted: {listed(names) or 'nothing'}."


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, apart where they contain commas themselves."""
    return ("; " if any("," in name for name in names) else ", ").join(names)


def nearest_option(name: str, accepted: Iterable[str], table: str) -> str:
    """Like :func:`nearest`, for an option of a configuration table; options of other tables get their full name.

    For an option that an earlier version had, return what became of it.

    Args:
        name: unknown name.
        accepted: options of the table.
        table: name of the table, empty for the top level.
    """
    names = sorted(accepted)
    word = name.lower().replace("-", "_")
    if word in FORMER_OPTIONS:
        return FORMER_OPTIONS[word]
    option = OPTION_NAMED.get(word)
    same = [known for known in names if option is not None and OPTION_NAMED.get(known) == option]
    if same:
        return f"did you mean '{same[0]}'?"
    may_be_absent = option is not None and option.startswith(f"{table}.") and option not in _ALWAYS_THERE
    if option is None or may_be_absent or _nearest(word, names):
        return nearest(word, names)
    return f"did you mean '{option}'?"


def _nearest(name: str, names: list[str]) -> str | None:
    close = difflib.get_close_matches(name, names, n=1, cutoff=_CLOSE)
    if close:
        return close[0]
    begun = [known for known in names if known.startswith(name) and len(name) >= _LEAST_PREFIX]
    return begun[0] if len(begun) == 1 else None
