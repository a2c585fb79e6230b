"""What torchvision's networks make of given weights and content.

torchvision cannot be installed beside transformers, whose version 5 breaks in its presence; so it lies in a folder of
its own (`make setup` makes it), and this file is run with that folder on PYTHONPATH, in a process of its own:

    python torchvision_networks.py NETWORK ASKED ANSWERED

ASKED and ANSWERED are safetensors files. ASKED holds the weights as ``weights.NAME``, ``content`` for the logits in
eval mode, and ``batch`` and ``labels`` for one training step in float64. ANSWERED holds ``logits``, ``gradients.NAME``
and the buffers after the step, ``buffers.NAME``; its metadata are the parameters' names in order, and the digest of the
weights that are drawn after seed 0.
"""

import hashlib
import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def declare_operators() -> torch.library.Library:
    """torchvision's own, compiled for CUDA, may not load; to import it they only need to be declared."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def build(name: str) -> nn.Module:
    from torchvision import models

    network: nn.Module = models.get_model(name, weights=None)
    return network


def digest(network: nn.Module) -> str:
    whole = hashlib.sha256()
    for parameter in network.parameters():
        whole.update(parameter.detach().numpy().tobytes())
    return whole.hexdigest()


def answer(network: nn.Module, asked: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.inference_mode():
        answered = {"logits": network.eval()(asked["content"])}
    network.train().double()
    nn.functional.cross_entropy(network(asked["batch"]), asked["labels"]).backward()
    answered |= {f"gradients.{name}": parameter.grad for name, parameter in network.named_parameters()}
    return answered | {f"buffers.{name}": buffer for name, buffer in network.named_buffers()}


def main(name: str, asked_path: str, answered_path: str) -> None:
    torch.set_num_threads(1)
    operators = declare_operators()
    torch.manual_seed(0)
    network = build(name)
    metadata = {"drawn": digest(network), "parameters": json.dumps([name for name, _ in network.named_parameters()])}
    with safe_open(asked_path, "pt") as file:
        asked = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    weights = {key.removeprefix("weights."): value for key, value in asked.items() if key.startswith("weights.")}
    network.load_state_dict(weights, strict=True)
    save_file(answer(network, asked), answered_path, metadata)
    del operators  # had to live as long as they were used


if __name__ == "__main__":
    main(*sys.argv[1:])
