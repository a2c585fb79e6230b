"""Content-driven micro-video recommendation: training and evaluation from raw videos and interactions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microlens.bench.table import Table, table
    from microlens.config.run_config import RunConfig
    from microlens.data.dataset import Dataset
    from microlens.data.prepare import prepare
    from microlens.data.protocol import Protocol
    from microlens.data.web_copies import WebCopies, write_web_copies
    from microlens.encoders.base import ItemEncoder
    from microlens.errors import InputError
    from microlens.evaluation.report import Report, adopt_run, check_run
    from microlens.feed.server.running import serve
    from microlens.feed.settings import FeedSettings
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
    "FeedSettings": "feed.settings",
    "InputError": "errors",
    "ItemEncoder": "encoders.base",
    "Protocol": "data.protocol",
    "Recommender": "recommenders.base",
    "Report": "evaluation.report",
    "Run": "runs.run",
    "RunConfig": "config.run_config",
    "Search": "runs.tune",
    "Settings": "media.decoding",
    "Table": "bench.table",
    "WebCopies": "data.web_copies",
    "adopt_run": "evaluation.report",
    "check_run": "evaluation.report",
    "compare": "runs.compare",
    "convert": "release.convert",
    "fit": "runs.fit",
    "load": "runs.run",
    "prepare": "data.prepare",
    "serve": "feed.server.running",
    "table": "bench.table",
    "train": "runs.train",
    "write_features": "runs.feature_files",
    "write_page": "page",
    "write_release": "release.synthetic",
    "write_web_copies": "data.web_copies",
}

__all__ = [
    "ClipSettings",
    "Conversion",
    "Dataset",
    "FeedSettings",
    "InputError",
    "ItemEncoder",
    "Protocol",
    "Recommender",
    "Report",
    "Run",
    "RunConfig",
    "Search",
    "Settings",
    "Table",
    "WebCopies",
    "adopt_run",
    "check_run",
    "compare",
    "convert",
    "fit",
    "load",
    "prepare",
    "serve",
    "table",
    "train",
    "write_features",
    "write_page",
    "write_release",
    "write_web_copies",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'microlens' has no attribute '{name}'")
    value = getattr(import_module(f"microlens.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
