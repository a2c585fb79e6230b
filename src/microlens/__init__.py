"""Content-driven micro-video recommendation: training and evaluation from raw videos and interactions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microlens.bench.table import Table, table
    from microlens.config.run_config import RunConfig
    from microlens.data.dataset import Dataset
    from microlens.data.export_lmdb import export_lmdb
    from microlens.data.new_items import NewItem
    from microlens.data.prepare import prepare
    from microlens.data.protocol import Protocol
    from microlens.data.web_copies import WebCopies, write_web_copies
    from microlens.download.adopt import Adoption, adopt_release
    from microlens.download.release import download_release, plan_release
    from microlens.download.work import Download
    from microlens.encoders.base import ItemEncoder
    from microlens.engines.ray_cluster import RayEngine
    from microlens.errors import InputError
    from microlens.evaluation.report import Report, adopt_run, check_run
    from microlens.feed.decisions import Decision
    from microlens.feed.from_events import FeedRelease, release_from_events
    from microlens.feed.off_policy import PolicyEstimate, estimate_policy, estimate_run
    from microlens.feed.report import FeedReport, report_feed
    from microlens.feed.server.running import serve
    from microlens.feed.settings import FeedSettings
    from microlens.feed.simulation.simulate import Simulation, simulate
    from microlens.feed.study.answers import StudyAnswer, invite_participants, study_answers
    from microlens.feed.study.settings import StudySettings
    from microlens.media.decoding import Settings
    from microlens.media.reading import ClipSettings
    from microlens.page.run_page import write_page
    from microlens.recommenders.base import Recommender
    from microlens.release.convert import Conversion, convert
    from microlens.release.import_lmdb import ImportedLmdb, import_lmdb
    from microlens.release.synthetic import write_release
    from microlens.release.synthetic_interactions import write_interactions_only
    from microlens.runs.code_files import CodeFiles, write_codes
    from microlens.runs.compare import compare
    from microlens.runs.feature_files import write_features
    from microlens.runs.fit import fit
    from microlens.runs.new_items import new_item_curve
    from microlens.runs.picture_texts import PictureTexts, write_picture_texts
    from microlens.runs.run import Run, load
    from microlens.runs.train import train
    from microlens.runs.tune import Search
    from microlens.stats.description import Description, describe
    from microlens.subsets.filtering import filter_release
    from microlens.subsets.sampling import sample_release
    from microlens.subsets.subset import Subset
    from microlens.verification.feature_files import FeatureComparison, adopt_features, compare_features
    from microlens.verification.report import Verification
    from microlens.verification.verify import verify

__version__ = "0.2.0"

# Imported on first use, because the command line and decoding processes do not need PyTorch.
_MODULES = {
    "Adoption": "download.adopt",
    "ClipSettings": "media.reading",
    "CodeFiles": "runs.code_files",
    "Conversion": "release.convert",
    "Dataset": "data.dataset",
    "Decision": "feed.decisions",
    "FeedRelease": "feed.from_events",
    "FeedReport": "feed.report",
    "FeedSettings": "feed.settings",
    "Description": "stats.description",
    "Download": "download.work",
    "FeatureComparison": "verification.feature_files",
    "ImportedLmdb": "release.import_lmdb",
    "InputError": "errors",
    "ItemEncoder": "encoders.base",
    "NewItem": "data.new_items",
    "PictureTexts": "runs.picture_texts",
    "PolicyEstimate": "feed.off_policy",
    "Protocol": "data.protocol",
    "RayEngine": "engines.ray_cluster",
    "Recommender": "recommenders.base",
    "Report": "evaluation.report",
    "Run": "runs.run",
    "RunConfig": "config.run_config",
    "Search": "runs.tune",
    "Settings": "media.decoding",
    "Simulation": "feed.simulation.simulate",
    "StudyAnswer": "feed.study.answers",
    "StudySettings": "feed.study.settings",
    "Subset": "subsets.subset",
    "Table": "bench.table",
    "Verification": "verification.report",
    "WebCopies": "data.web_copies",
    "adopt_features": "verification.feature_files",
    "adopt_release": "download.adopt",
    "adopt_run": "evaluation.report",
    "check_run": "evaluation.report",
    "compare": "runs.compare",
    "compare_features": "verification.feature_files",
    "convert": "release.convert",
    "describe": "stats.description",
    "download_release": "download.release",
    "estimate_policy": "feed.off_policy",
    "estimate_run": "feed.off_policy",
    "export_lmdb": "data.export_lmdb",
    "filter_release": "subsets.filtering",
    "fit": "runs.fit",
    "import_lmdb": "release.import_lmdb",
    "invite_participants": "feed.study.answers",
    "load": "runs.run",
    "new_item_curve": "runs.new_items",
    "plan_release": "download.release",
    "prepare": "data.prepare",
    "release_from_events": "feed.from_events",
    "report_feed": "feed.report",
    "sample_release": "subsets.sampling",
    "serve": "feed.server.running",
    "simulate": "feed.simulation.simulate",
    "study_answers": "feed.study.answers",
    "table": "bench.table",
    "train": "runs.train",
    "verify": "verification.verify",
    "write_codes": "runs.code_files",
    "write_features": "runs.feature_files",
    "write_interactions_only": "release.synthetic_interactions",
    "write_page": "page.run_page",
    "write_picture_texts": "runs.picture_texts",
    "write_release": "release.synthetic",
    "write_web_copies": "data.web_copies",
}

__all__ = [
    "Adoption",
    "ClipSettings",
    "CodeFiles",
    "Conversion",
    "Dataset",
    "Decision",
    "Description",
    "Download",
    "FeatureComparison",
    "FeedRelease",
    "FeedReport",
    "FeedSettings",
    "ImportedLmdb",
    "InputError",
    "ItemEncoder",
    "NewItem",
    "PictureTexts",
    "PolicyEstimate",
    "Protocol",
    "RayEngine",
    "Recommender",
    "Report",
    "Run",
    "RunConfig",
    "Search",
    "Settings",
    "Simulation",
    "StudyAnswer",
    "StudySettings",
    "Subset",
    "Table",
    "Verification",
    "WebCopies",
    "adopt_features",
    "adopt_release",
    "adopt_run",
    "check_run",
    "compare",
    "compare_features",
    "convert",
    "describe",
    "download_release",
    "estimate_policy",
    "estimate_run",
    "export_lmdb",
    "filter_release",
    "fit",
    "import_lmdb",
    "invite_participants",
    "load",
    "new_item_curve",
    "plan_release",
    "prepare",
    "release_from_events",
    "report_feed",
    "sample_release",
    "serve",
    "simulate",
    "study_answers",
    "table",
    "train",
    "verify",
    "write_codes",
    "write_features",
    "write_interactions_only",
    "write_page",
    "write_picture_texts",
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
