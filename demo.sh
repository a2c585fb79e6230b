#!/usr/bin/env bash
# From nothing to a table of trained recommenders: what `make demo` runs once the package is installed.
# Every step is skipped or picked up again when it was done before; remove releases/demo, datasets/demo and runs/demo to start over.
set -euo pipefail
cd "$(dirname "$0")"
microlens=.venv/bin/microlens

[ -d releases/demo ] || $microlens data synth releases/demo --users 2000 --items 400
$microlens data prepare releases/demo datasets/demo --num-frames 4 --size 32
for run in popularity sasrec-id sasrec-video; do
    $microlens train configs/demo/$run.toml
done
$microlens report runs/demo/popularity runs/demo/sasrec-id runs/demo/sasrec-video --html runs/demo/report.html
