"""Content-driven micro-video recommendation: training and evaluation from raw videos and interactions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microlens.bench.table import Table, table
    from microlens.config.run_config import RunConfig
    from microlens.data.dataset import Dataset
    from microlens.data.prepare import prepare
    from microlens.data.protocol import Protocol
    from microlens.encoders.base import ItemEncoder
    from microlens.engines.ray_cluster import RayEngine
    from microlens.errors import InputError
    from microlens.evaluation.report import Report, adopt_run, check_run
    from microlens.media.decoding import Settings
    from microlens.media.reading import ClipSettings
    from microlens.page import write_page
    from microlens.recommenders.base import Recommender
    from microlens.release.convert import Conversion, convert
    from microlens.release.synthetic import write_release
    from microlens.runs.compare import compare
    from microlens.runs.feature_files import write_features
    from microlens.runs.fit import fit
    from microlens.runs.run import Run, load
    from microlens.runs.train import train
    from microlens.runs.tune import Search

__version__ = "0.2.0"

# Imported on first use, because the command line and decoding processes do not need PyTorch.
_MODULES = {
    "ClipSettings": "media.reading",
    "Conversion": "release.convert",
    "Dataset": "data.dataset",
    "InputError": "errors",
    "ItemEncoder": "encoders.base",
    "Protocol": "data.protocol",
    "RayEngine": "engines.ray_cluster",
    "Recommender": "recommenders.base",
    "Report": "evaluation.report",
    "Run": "runs.run",
    "RunConfig": "config.run_config",
    "Search": "runs.tune",
    "Settings": "media.decoding",
    "Table": "bench.table",
    "adopt_run": "evaluation.report",
    "check_run": "evaluation.report",
    "compare": "runs.compare",
    "convert": "release.convert",
    "fit": "runs.fit",
    "load": "runs.run",
    "prepare": "data.prepare",
    "table": "bench.table",
    "train": "runs.train",
    "write_features": "runs.feature_files",
    "write_page": "page",
    "write_release": "release.synthetic",
}

__all__ = [
    "ClipSettings",
    "Conversion",
    "Dataset",
    "InputError",
    "ItemEncoder",
    "Protocol",
    "RayEngine",
    "Recommender",
    "Report",
    "Run",
    "RunConfig",
    "Search",
    "Settings",
    "Table",
    "adopt_run",
    "check_run",
    "compare",
    "convert",
    "fit",
    "load",
    "prepare",
    "table",
    "train",
    "write_features",
    "write_page",
    "write_release",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'microlens' has no attribute '{name}'")
    value = getattr(import_module(f"microlens.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
