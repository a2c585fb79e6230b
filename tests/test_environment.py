"""A model that does not fit into memory, and a device that is not there, are refused before anything happens."""

import socket

import pytest
import torch
from torch import nn

from microlens import environment
from microlens.distributed import local_device, process_group
from microlens.environment import available_memory, parameters_that_fit, refuse_too_large_to_train
from microlens.errors import InputError


def test_the_memory_is_that_of_this_machine() -> None:
    assert 2**26 < available_memory() < 2**50


def test_parameters_that_do_not_fit_are_refused_before_they_take_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "available_memory", lambda: 4 * 1000 * 64 + 2 * 4096)
    filled: list[int] = []
    monkeypatch.setattr(nn.Embedding, "reset_parameters", lambda table: filled.append(table.num_embeddings))
    with parameters_that_fit():
        nn.Embedding(1000, 64)
    with pytest.raises(InputError, match=r"more than the 0\.0 GB .* a smaller model\.dim"), parameters_that_fit():
        nn.Sequential(nn.Embedding(100, 64), nn.Embedding(1000, 64))
    nn.Embedding(5000, 64)  # counted no longer
    assert filled == [1000, 100, 5000]


def test_an_allocation_that_fails_is_a_sentence_and_another_error_is_not() -> None:
    with pytest.raises(InputError, match="the model's parameters need more"), parameters_that_fit():
        torch.empty(2**55)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), parameters_that_fit():
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_what_training_takes_beside_the_weights_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    model, cpu = nn.Linear(100, 100, bias=False), torch.device("cpu")
    monkeypatch.setattr(environment, "available_memory", lambda: 3 * 4 * 100 * 100)
    refuse_too_large_to_train(model, cpu)
    monkeypatch.setattr(environment, "available_memory", lambda: 3 * 4 * 100 * 100 - 1)
    with pytest.raises(InputError, match="training the model takes"):
        refuse_too_large_to_train(model, cpu)
    model.weight.requires_grad_(False)
    refuse_too_large_to_train(model, cpu)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert local_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match=r'train\.device is "cuda", but the installed PyTorch is built without CUDA'):
        local_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(InputError, match="has no driver or GPU that it can use"):
        local_device("cuda")


@pytest.mark.parametrize("rank", ["2", "-1", "x", ""])
def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch, rank: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert local_device("cuda") == local_device("auto") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", rank)
    for wanted in ("cuda", "auto"):
        with pytest.raises(InputError, match=f"LOCAL_RANK is {rank}, and this machine has 2 GPUs"):
            local_device(wanted)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WORLD_SIZE", "0", "WORLD_SIZE is '0'"),
        ("WORLD_SIZE", "y", "WORLD_SIZE is 'y'"),
        ("RANK", None, "RANK is not set"),
        ("RANK", "2", "RANK is '2'; it must be a whole number from 0 to 1"),
        ("MASTER_ADDR", None, "MASTER_ADDR is not set"),
        ("MASTER_PORT", "abc", "MASTER_PORT is 'abc'"),
        ("MASTER_PORT", "65536", "MASTER_PORT is '65536'; it must be a whole number from 1 to 65,535"),
    ],
)
def test_processes_that_torchrun_did_not_start_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, said: str
) -> None:
    group = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", name: value}
    for variable, content in group.items():
        if content is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, content)
    with pytest.raises(InputError, match=f"{said}.*torchrun"), process_group(torch.device("cpu")):
        pass


def test_processes_that_cannot_connect_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1", str(taken.getsockname()[1])
        variables = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
        for variable, content in zip(variables, ("2", "0", *address), strict=True):
            monkeypatch.setenv(variable, content)
        said = rf"the 2 processes of torchrun cannot meet at {':'.join(address)} .*address already in use"
        with pytest.raises(InputError, match=said), process_group(torch.device("cpu")):
            pass
