"""From a DataFrame with text ids to recommendations, in one plain script.

    python examples/dataframe.py [USERS]

Users watch videos of one genre one after another, each from a starting point of their own. SASRec over ids learns what
comes next; counting how often a video was watched does not.
"""

import random
import sys

import polars as pl

import microlens as ml

NUM_USERS = int(sys.argv[1]) if len(sys.argv) > 1 else 500
GENRES = ("cooking", "travel", "music", "sports")
VIDEOS = [f"{genre}-{number:02}" for genre in GENRES for number in range(15)]

draw = random.Random(0)
events = []
for user in range(NUM_USERS):
    genre, start = draw.randrange(len(GENRES)), draw.randrange(15)
    for step in range(8):
        video = VIDEOS[15 * genre + (start + step) % 15]
        events.append({"uid": f"user-{user}", "vid": video, "ts": 1_700_000_000 + 3600 * step})

data = ml.Dataset.from_frame(
    pl.DataFrame(events),
    "datasets/dataframe",
    user="uid",
    item="vid",
    time="ts",
    items=pl.DataFrame({"vid": VIDEOS, "title": [video.replace("-", " ").title() for video in VIDEOS]}),
)
run = ml.fit(data, "sasrec", encoder={"name": "id"}, output="runs/dataframe", dim=32, epochs=10, lr=0.01, batch_size=32)
popularity = ml.fit(data, "popularity", output="runs/dataframe-popularity")

print(ml.compare([run, popularity]))
print(run.recommend(users=["user-0"], k=5))
print(run.recommend(history=["music-03", "music-04"], k=5))
print(run.similar("cooking-07", k=5))

everyone = run.recommend(k=5)
everyone.write_csv("recommendations.csv")
print(f"recommendations.csv is written: {len(everyone)} rows for {everyone['user'].n_unique()} users.")
