"""The sizes in docs/scale.md are those of the measured figures."""

import json
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY

RESULTS = REPOSITORY / "speed" / "results"


@pytest.fixture
def sizing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "speed"))
    import sizing

    return sizing


def test_page_and_result_are_computed_from_the_measurements(sizing: ModuleType) -> None:
    sizes = json.loads((RESULTS / "sizing.json").read_text())
    assert sizing.document() == sizes, "run: python speed/sizing.py"
    page = (REPOSITORY / "docs" / "scale.md").read_text()
    assert sizing.with_tables(page, sizes) == page, "run: python speed/sizing.py"


def test_the_formulas_on_round_numbers(sizing: ModuleType) -> None:
    figures = {
        "clips_bytes": 100e3, "sound_bytes": 60e3, "covers_bytes": 40e3, "clips_seconds": 0.5, "sound_seconds": 0.3,
        "covers_seconds": 0.1, "verify_seconds": 3.6, "interaction_bytes": 20.0, "interaction_seconds": 1e-6,
        "ray_over_local": 1.1, "features_per_second": 100.0, "feature_bytes": 9216.0, "epoch_seconds": 2.0,
    }  # fmt: skip
    full = sizing.FullSet(users=1_000_000, videos=1_000_000, interactions=10_000_000, video_bytes=20e6)
    have = sizing.Machines(machines=10, cores=10, network_gigabits=8.0, download_gigabits=0.8)
    found = {row.what: (row.value, row.unit) for row in sizing.rows(figures, full, have)}
    expected = {
        "videos as downloaded": (20.0, "TB"),
        "their download": (2e5 / 3600, "hours"),
        "clips": (100.0, "GB"),
        "decoding": (250.0, "core-hours"),
        "decoding on the cluster": (2.75, "hours"),
        "reading the videos meanwhile": (2000 / 3600, "hours"),
        "cost of decoding": (10 * 2.75 * have.dollars_machine_hour, "$"),
        "verification": (1000.0, "core-hours"),
        "cost of the verification": (1000 * 1.1 / 10 * have.dollars_machine_hour, "$"),
        "assembly of the stores on one machine": (600 / 3600, "hours"),
        "features, SlowFast-R50": (1e4 / 3600, "GPU-hours"),
        "interactions of a dataset": (0.2, "GB"),
        "epoch of SASRec on ids, D = 512": (20 / 3600, "GPU-hours"),
        "a month of videos and stores in a bucket": (20_200 * have.dollars_gigabyte_month, "$"),
    }
    assert {what: found[what] for what in expected} == {
        what: (pytest.approx(value), unit) for what, (value, unit) in expected.items()
    }
