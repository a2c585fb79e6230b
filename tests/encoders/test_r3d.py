"""R3D-18 and ResNet-18: their state dicts, and their agreement with torchvision."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from microlens.encoders.resnet18 import ResNet18
from microlens.encoders.trunk import Trunk
from microlens.encoders.tuning import Regime, Tuning, apply_tuning
from microlens.encoders.video.r3d import R3D
from tests.conftest import REPOSITORY
from tests.encoders.test_x3d import fill_with_sines
from tests.processes import run_python
from tests.reference.networks import randomise_norms

TORCHVISION = REPOSITORY / ".venv" / "reference"
REFERENCE = REPOSITORY / "tests" / "reference" / "torchvision_networks.py"


@dataclass(frozen=True)
class Facts:
    """What torchvision 0.28.0 says of a network: the digest is of the "name shape" lines of state_dict(), in order."""

    build: Callable[[], Trunk]
    reference: str
    native: tuple[int, ...]
    small: tuple[int, ...]
    parameters: int
    digest: str
    first_of_top1: int
    sine_logits: list[float]  # of classes 0, 80, ..., 320, for sine weights and a sine wave as content


R3D_FACTS = Facts(
    build=R3D,
    reference="r3d_18",
    native=(3, 16, 112, 112),
    small=(3, 4, 32, 32),
    parameters=33_371_472,
    digest="6fd88b43e8edff35be589dc052df0ee4df69cc2f571ea121357e468ad8e42732",
    first_of_top1=30,
    sine_logits=[0.83703, 0.55642, -0.10485, -0.44973, -0.26097],
)
RESNET_FACTS = Facts(
    build=ResNet18,
    reference="resnet18",
    native=(3, 224, 224),
    small=(3, 64, 64),
    parameters=11_689_512,
    digest="84fb10d9c6905a1cbb020b284537dc97c4f4ec55fb2a780a41152a23a2dd0e9d",
    first_of_top1=45,
    sine_logits=[-0.2841, -0.89753, -0.45382, -1.17591, -0.36636],
)
BOTH = pytest.mark.parametrize("facts", [R3D_FACTS, RESNET_FACTS], ids=["r3d", "resnet18"])


def seeded(facts: Facts) -> Trunk:
    torch.manual_seed(0)
    trunk = facts.build()
    randomise_norms(trunk)
    return trunk


@dataclass(frozen=True)
class Comparison:
    """A network, what torchvision's was asked, and what it answered."""

    build: Callable[[], Trunk]
    asked: dict[str, Tensor]
    answered: dict[str, Tensor]
    metadata: dict[str, str]

    def trunk(self) -> Trunk:
        trunk = self.build()
        weights = {key: value for key, value in self.asked.items() if key.startswith("weights.")}
        trunk.load_state_dict({key.removeprefix("weights."): value for key, value in weights.items()}, strict=True)
        return trunk


@pytest.fixture(scope="module", params=[R3D_FACTS, RESNET_FACTS], ids=["r3d", "resnet18"])
def comparison(request: pytest.FixtureRequest) -> Iterator[Comparison]:
    """torchvision runs in a process of its own, see tests/reference/torchvision_networks.py."""
    if not (TORCHVISION / "torchvision").is_dir():
        pytest.skip(f"torchvision is not in {TORCHVISION.relative_to(REPOSITORY)} (make setup)")
    facts: Facts = request.param
    asked = {f"weights.{name}": value for name, value in seeded(facts).state_dict().items()}
    asked["content"] = torch.randn(1, *facts.native)
    asked["batch"], asked["labels"] = torch.randn(4, *facts.small, dtype=torch.double), torch.tensor([7, 0, 399, 7])
    with TemporaryDirectory() as folder:
        answered, metadata = torchvision_answers(facts.reference, asked, Path(folder))
        yield Comparison(facts.build, asked, answered, metadata)


def torchvision_answers(name: str, asked: dict[str, Tensor], folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    save_file(asked, folder / "asked.safetensors")
    answered = folder / "answered.safetensors"
    arguments = [REFERENCE, name, folder / "asked.safetensors", answered]
    run = run_python(arguments, environment={**os.environ, "PYTHONPATH": str(TORCHVISION)})
    assert run.returncode == 0, run.stderr
    with safe_open(answered, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 - it is no dict


def test_logits_equal_those_of_torchvision(comparison: Comparison) -> None:
    trunk = comparison.trunk().eval()
    with torch.inference_mode():
        logits = trunk(comparison.asked["content"])
    torch.testing.assert_close(logits, comparison.answered["logits"], atol=1e-4, rtol=1e-4)


def test_a_training_step_equals_that_of_torchvision(comparison: Comparison) -> None:
    trunk = comparison.trunk().train().double()
    nn.functional.cross_entropy(trunk(comparison.asked["batch"]), comparison.asked["labels"]).backward()
    names = [name for name, _ in trunk.named_parameters()]
    assert names == json.loads(comparison.metadata["parameters"])
    for name, parameter in trunk.named_parameters():
        expected = comparison.answered[f"gradients.{name}"]
        assert (parameter.grad - expected).norm() <= 1e-6 * expected.norm() + 1e-12, name
    for name, buffer in trunk.named_buffers():
        torch.testing.assert_close(buffer, comparison.answered[f"buffers.{name}"])


def test_random_weights_are_drawn_as_in_torchvision(comparison: Comparison) -> None:
    torch.manual_seed(0)
    drawn = hashlib.sha256()
    for parameter in comparison.build().parameters():
        drawn.update(parameter.detach().numpy().tobytes())
    assert drawn.hexdigest() == comparison.metadata["drawn"]


@BOTH
def test_names_and_shapes_are_those_of_the_published_weights(facts: Facts) -> None:
    trunk = facts.build()
    lines = "\n".join(f"{key} {tuple(value.shape)}" for key, value in trunk.state_dict().items())
    assert sum(parameter.numel() for parameter in trunk.parameters()) == facts.parameters
    assert hashlib.sha256(lines.encode()).hexdigest() == facts.digest


@BOTH
def test_logits_are_those_that_torchvision_gave_for_the_same_weights(facts: Facts) -> None:
    trunk = facts.build().eval()
    fill_with_sines(trunk)
    wave = torch.linspace(-300, 300, torch.Size(facts.native).numel(), dtype=torch.double).sin().float()
    with torch.inference_mode():
        logits = trunk(wave.view(1, *facts.native))[0, :400:80]
    torch.testing.assert_close(logits, torch.tensor(facts.sine_logits), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("facts", "shape"),
    [
        *((R3D_FACTS, shape) for shape in [(1, 1, 1), (5, 48, 48), (2, 33, 47), (16, 16, 40)]),
        *((RESNET_FACTS, shape) for shape in [(1, 1), (48, 48), (33, 47), (250, 40)]),
    ],
)
def test_content_of_any_length_and_size_fits(facts: Facts, shape: tuple[int, ...]) -> None:
    trunk = seeded(facts).eval()
    content = torch.randn(3, 3, *shape)
    with torch.inference_mode():
        features, logits = trunk.features(content), trunk(content)
        alone = trunk.features(content[1:2])
    assert features.shape == (3, trunk.feature_dim)
    assert logits.shape == (3, trunk.num_classes)
    assert (features[0] - features[1]).abs().max() > 1e-3
    torch.testing.assert_close(features[1:2], alone, atol=1e-4, rtol=1e-4)


@BOTH
def test_the_chain_may_be_cut_after_any_stage(facts: Facts) -> None:
    trunk = seeded(facts).eval()
    content = torch.randn(2, *facts.small)
    with torch.inference_mode():
        expected, hidden = trunk.features(content), trunk.begin(content)
        for cut, stage in enumerate(trunk.stages(), 1):
            hidden = stage.run(hidden)
            kept = tuple(state.flip(0).contiguous() for state in hidden)  # rows are items
            for later in trunk.stages()[cut:]:
                kept = later.run(kept)
            torch.testing.assert_close(trunk.pool(kept).flip(0), expected, atol=1e-5, rtol=1e-5)


@BOTH
def test_the_gradient_reaches_every_parameter(facts: Facts) -> None:
    trunk = seeded(facts).train()
    trunk(torch.randn(4, *facts.small)).square().mean().backward()
    for name, parameter in trunk.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def trained_names(trunk: Trunk, regime: Regime) -> list[str]:
    apply_tuning(trunk, Tuning(tune=regime))
    return [name for name, parameter in trunk.named_parameters() if parameter.requires_grad]


@BOTH
def test_top1_trains_what_the_paper_trains(facts: Facts) -> None:
    trunk = facts.build()
    names = [name for name, _ in trunk.named_parameters()]
    assert trained_names(trunk, "top1") == names[facts.first_of_top1 :]


def test_top1_parameters_add_up_to_the_papers_table_9() -> None:
    trunk = R3D()
    trunk.drop_classifier()
    apply_tuning(trunk, Tuning(tune="top1"))
    trained = sum(parameter.numel() for parameter in trunk.parameters() if parameter.requires_grad)
    assert trained == 31_137_280
    projection, sasrec, item_numbers = 512 * 512 + 512, 6_306_816, 512 * 19_671
    assert round((trained + projection + sasrec + item_numbers) / 1e6, 2) == 47.78


@BOTH
def test_the_classifier_can_be_given_up(facts: Facts) -> None:
    trunk = seeded(facts).eval()
    content = torch.randn(2, *facts.small)
    with torch.inference_mode():
        features = trunk.features(content)
        torch.testing.assert_close(trunk(content), trunk.fc(features))
        trunk.drop_classifier()
        assert torch.equal(trunk.features(content), features)
    assert not any(name.startswith("fc.") for name in trunk.state_dict())


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@BOTH
def test_adapters_go_to_every_convolution_and_begin_as_nothing(facts: Facts) -> None:
    pytest.importorskip("peft")
    trunk = seeded(facts).eval()
    content = torch.randn(2, *facts.small)
    convolutions = sum(isinstance(module, nn.Conv2d | nn.Conv3d) for module in trunk.modules())
    with torch.inference_mode():
        expected = trunk.features(content)
        names = trained_names(trunk, "lora")
        torch.testing.assert_close(trunk.eval().features(content), expected, atol=1e-5, rtol=1e-5)
    assert len(names) == 2 * convolutions == 40
