"""RecBole's training epochs as a contestant; imported by RecBole's own Python only (recbole.txt)."""

import os

import torch
from contestants import Turns
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

SEQUENTIAL = {"MAX_ITEM_LIST_LENGTH": 10, "hidden_size": 64, "train_neg_sample_args": None}
SETTINGS = {
    "SASRec": SEQUENTIAL | {"inner_size": 256, "n_layers": 2, "n_heads": 2},
    "GRU4Rec": SEQUENTIAL | {"num_layers": 1},
    "LightGCN": {"n_layers": 2},
}


def train(turns: Turns, name: str, folder: str, epochs: int, threads: int) -> None:
    """Epochs of the model ``name``, over ``bench/bench.inter`` in ``folder``, where RecBole's logs go, too.

    The last two items of a user are held out, as in our protocol.
    """
    os.chdir(folder)
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
    data, _, _ = data_preparation(config, dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, get_model(name)(config, data._dataset))
    turns.ready(targets=len(data._dataset))
    for epoch in range(epochs):
        turns.begin()
        trainer._train_epoch(data, epoch)
        turns.end()
