"""From video files to VideoRec, and to a recommendation of a video that nobody has watched.

    python examples/videos.py [USERS]

Writes a synthetic release with real encoded videos, in which what is seen decides who likes a video; prepares it;
trains SASRec over X3D-XS and over ids; and lets a video from outside the dataset compete for a place in a list.
"""

import shutil
import sys
from pathlib import Path

import microlens as ml

NUM_USERS = int(sys.argv[1]) if len(sys.argv) > 1 else 400

if not Path("releases/videos").exists():
    ml.write_release(Path("releases/videos"), users=NUM_USERS, items=max(12, NUM_USERS // 5), seed=0)
data = ml.prepare("releases/videos", "datasets/videos")

on_videos = ml.fit(
    data,
    "sasrec",
    encoder={"name": "x3d_xs", "tune": "top1"},
    output="runs/videos",
    dim=32,
    epochs=4,
    lr=1e-3,
    batch_size=32,
)
on_ids = ml.fit(data, "sasrec", encoder={"name": "id"}, output="runs/ids", dim=32, epochs=4, lr=1e-2, batch_size=32)
for run in (on_videos, on_ids):
    found = run.report.metrics["test"]
    print(f"HR@10 of {run.name}: warm {found['warm']['HR@10']:.3f}, cold {found['cold']['HR@10']:.3f}")

shutil.copy("releases/videos/videos/5.mp4", "new.mp4")
print("The new video as a vector:", on_videos.encode_video("new.mp4").shape)
print(on_videos.recommend(history=[1, 2, 3], add_video="new.mp4", k=5))
