"""The Python API as a stranger meets it: a script without a guard, string ids, and a fresh process somewhere else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import microlens as ml
from tests.processes import run_python

SCRIPT = """
import sys
from pathlib import Path
import polars as pl
import microlens as ml

videos = sorted(path.stem for path in Path("videos").glob("*.mp4"))
steps = [(user, step) for user in range(24) for step in range(6)]
rows = [(f"u{user}", videos[(3 * user + step) % len(videos)], 1_700_000_000 + step) for user, step in steps]
columns = {"uid": [row[0] for row in rows], "vid": [row[1] for row in rows], "ts": [row[2] for row in rows]}
items = pl.DataFrame({"vid": videos, "title": [f"Title of {video}" for video in videos]})
settings = ml.Settings(clips=ml.ClipSettings(num_frames=2, size=32), cover_size=32)
data = ml.Dataset.from_frame(
    pl.DataFrame(columns), "datasets/mine", user="uid", item="vid", time="ts", items=items, videos="videos/",
    settings=settings, workers=2,
)
run = ml.fit(
    data, "sasrec", encoder={"name": "x3d_xs", "tune": "top1"}, output="runs/mine", dim=8, epochs=1, lr=1e-3,
    batch_size=12, norm_batch=8, micro_batch=8, device="cpu",
)
other = ml.fit(data, "popularity", output="runs/other")
assert 0 <= run.report.metrics["test"]["all"]["HR@10"] <= 1
lists = run.recommend(users=["u7"], k=5)
assert lists.columns == ["user", "item", "rank", "score", "title"]
assert lists["title"][0] == f"Title of {lists['item'][0]}"
assert run.recommend(k=2)["user"].n_unique() == 24
assert len(run.recommend(history=videos[:2], k=3)) == 3
assert len(run.similar(videos[0], k=3)) == 3
assert len(run.encode_video(f"videos/{videos[0]}.mp4")) == 8
assert ml.compare([run, other])["run"].to_list()[:2] == ["mine", "other"]
print(",".join(lists["item"]))
"""

AGAIN = """
import sys
import microlens as ml

run = ml.load(sys.argv[1])
assert run.evaluate()["metrics"] == run.report.metrics
print(",".join(run.recommend(users=["u7"], k=5)["item"]))
"""


def run_script(script: str, folder: Path) -> str:
    (folder / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "error", "script.py"],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_a_script_from_a_frame_to_recommendations(video_dataset: Path, tmp_path: Path) -> None:
    """A frame of pandas makes the same dataset: tests/data/test_frames.py."""
    (tmp_path / "videos").mkdir()
    for video in (video_dataset.parent / "release" / "videos").glob("*.mp4"):
        shutil.copy(video, tmp_path / "videos" / f"v{video.name}")
    first = run_script(SCRIPT, tmp_path)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    done = run_python(["-c", AGAIN, tmp_path / "runs" / "mine"], folder=elsewhere)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == first
    shutil.move(tmp_path / "runs", elsewhere / "runs")
    shutil.move(tmp_path / "datasets", elsewhere / "datasets")
    moved = ml.load(elsewhere / "runs" / "mine", dataset=elsewhere / "datasets" / "mine")
    assert moved.recommend(users=["u7"], k=5)["item"].to_list() == first.split(",")


def test_everything_is_there_and_nothing_heavy_is_loaded_before_it_is_used() -> None:
    assert all(hasattr(ml, name) for name in ml.__all__)
    assert set(ml.__all__) <= set(dir(ml))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        ml.nothing  # noqa: B018
    told = "import sys, microlens; print(sorted({'torch', 'polars', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
