"""What the demonstration's datasets have besides videos."""

from pathlib import Path

import numpy as np

from microlens.bench.demonstration import CODES, _name_codes
from microlens.data.item_codes import load_codes
from tests.conftest import REPOSITORY
from tests.runs.test_code_files import write_features


def test_codes_have_the_names_that_configurations_use(tmp_path: Path) -> None:
    write_features(tmp_path / "features", np.arange(1, 41), name="video")
    _name_codes(tmp_path)
    for name in CODES:
        assert load_codes(tmp_path / "features" / f"{name}.npy", np.arange(1, 41)).shape == (40, 4)
        configured = [path.read_text() for path in (REPOSITORY / "configs" / "demo").glob("tiger*.toml")]
        assert any(f'codes = "datasets/demo/features/{name}.npy"' in text for text in configured)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}
    _name_codes(tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}
