"""Seconds of RecBole's training epochs, printed as JSON; run by the peers' own Python.

python recbole_epoch.py MODEL FOLDER EPOCHS THREADS

``FOLDER`` holds ``bench/bench.inter``. The last two items of a user are held out, as in our protocol.
"""

import json
import sys
import time

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

SEQUENTIAL = {"MAX_ITEM_LIST_LENGTH": 10, "hidden_size": 64, "train_neg_sample_args": None}
SETTINGS = {
    "SASRec": SEQUENTIAL | {"inner_size": 256, "n_layers": 2, "n_heads": 2},
    "GRU4Rec": SEQUENTIAL | {"num_layers": 1},
    "LightGCN": {"n_layers": 2},
}


def main() -> None:
    """Train and time."""
    name, folder, epochs, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    settings = {
        "data_path": folder,
        "USER_ID_FIELD": "user",
        "ITEM_ID_FIELD": "item",
        "TIME_FIELD": "timestamp",
        "load_col": {"inter": ["user", "item", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
        "seed": 0,
        "train_batch_size": 2048,
        "embedding_size": 64,
        **SETTINGS[name],
    }
    config = Config(model=name, dataset="bench", config_dict=settings)
    init_seed(0, True)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, get_model(name)(config, train._dataset))
    seconds = []
    for epoch in range(epochs):
        start = time.perf_counter()
        trainer._train_epoch(train, epoch)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds_per_epoch": min(seconds), "targets": len(train._dataset)}))


if __name__ == "__main__":
    main()
