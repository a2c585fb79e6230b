"""YAMNet: its agreement with the published graph, the sound it is given, and real sound of known classes."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from microlens.building import build
from microlens.data.batches import ItemBatch
from microlens.encoders import CONTENT_ENCODERS
from microlens.encoders.onnx_weights import read_onnx_archive
from microlens.encoders.tuning import Tuning
from microlens.encoders.weights import bring_weights, load_weights
from microlens.encoders.yamnet import YAMNET_WEIGHTS, YAMNet, YAMNetEncoder
from microlens.errors import InputError
from microlens.media.sound import SoundSettings, log_mel, read_log_mel

onnx = pytest.importorskip("onnx")

CLASSES = {"Speech": 0, "Music": 132, "Electronic music": 234, "Silence": 494}  # by heart, from AudioSet's table for it


@pytest.fixture(scope="module")
def published() -> YAMNet:
    network = YAMNet().eval()
    try:
        YAMNET_WEIGHTS.obtain()
    except InputError as missing:
        pytest.skip(str(missing))
    bring_weights(network, "default", YAMNET_WEIGHTS, Tuning(tune="frozen"))
    return network


def encoder() -> YAMNetEncoder:
    return YAMNetEncoder(YAMNet(), 4, tuning=Tuning(tune="frozen"), missing="error")


def heard(sound: NDArray[np.uint8]) -> Tensor:
    """The input of the network for one spectrogram (T, 64)."""
    items = ItemBatch(items=torch.tensor([1]), content={"sound": torch.from_numpy(sound).unsqueeze(0)})
    return encoder().content(items)


def graph_logits(window: Tensor) -> Tensor:
    """Logits (521,) of one window (96, 64): the published graph, node by node, without its rounding to 8 bits."""
    with zipfile.ZipFile(YAMNET_WEIGHTS.path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".onnx"))
        graph = onnx.load_model_from_string(archive.read(name)).graph
    values = read_onnx_archive(YAMNET_WEIGHTS.path)
    values[graph.input[0].name] = window[None, None]
    for node in graph.node:
        x, *rest = (values[name] for name in node.input)
        options = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type == "Conv":
            top, left, bottom, right = options["pads"]
            x = functional.pad(x, (left, right, top, bottom))
            x = functional.conv2d(x, *rest, stride=options["strides"], groups=options["group"])
        elif node.op_type == "Relu":
            x = x.clamp(min=0)
        elif node.op_type == "GlobalAveragePool":
            x = x.mean((2, 3), keepdim=True)
        elif node.op_type == "Reshape":
            x = x.reshape(1, -1)
        elif node.op_type == "Gemm":
            x = x @ rest[0].T + rest[1]
        else:
            assert node.op_type in ("QuantizeLinear", "DequantizeLinear")
        values[node.output[0]] = x
    return values[graph.output[0].name][0]


def test_logits_equal_those_of_the_published_graph(published: YAMNet) -> None:
    sound = torch.randn(1, 96, 64) * 2 - 3
    with torch.inference_mode():
        expected = graph_logits(sound[0])
        torch.testing.assert_close(published(sound)[0], expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.5


def test_windows_are_averaged(published: YAMNet) -> None:
    sound = torch.randn(2, 96 + 48 + 47, 64)
    with torch.inference_mode():
        one, two = published.features(sound[:, :96]), published.features(sound[:, 48:144])
        torch.testing.assert_close(published.features(sound), (one + two) / 2, rtol=1e-4, atol=1e-5)


def magnitudes(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """What YAMNet is trained on, by its definition: log-mel magnitudes (T, 64) of samples at 16 kHz."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    windows = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160] * hann
    spectrum = np.abs(np.fft.rfft(windows, 512))  # (T, 257)

    def mel(hertz: float) -> float:
        return 1127 * float(np.log(1 + hertz / 700))

    edges = np.linspace(mel(125), mel(7500), 66)
    bands = np.zeros((len(spectrum), 64))
    for band in range(64):
        for frequency in range(1, 257):
            pitch = mel(frequency * 16000 / 512)
            rising = (pitch - edges[band]) / (edges[band + 1] - edges[band])
            falling = (edges[band + 2] - pitch) / (edges[band + 2] - edges[band + 1])
            bands[:, band] += max(0.0, min(rising, falling)) * spectrum[:, frequency]
    return np.log(bands + 0.001)


def test_stored_sound_becomes_what_the_network_was_trained_on() -> None:
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(32000)).astype(np.float32)
    time = np.arange(32000) / 16000
    rumble = (np.cumsum(noise) / 30).astype(np.float32)
    tones = (0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 3000 * time)).astype(np.float32)
    for samples, off in ((noise, 0.2), (rumble, 0.2), (tones + noise / 50, 0.35)):
        difference = heard(log_mel(samples, SoundSettings()))[0].numpy() - magnitudes(samples)
        assert np.abs(difference).mean() < off
        assert np.abs(difference.mean()) < 0.2


def test_silence_is_silence() -> None:
    found = heard(np.zeros((100, 64), dtype=np.uint8))
    torch.testing.assert_close(found, torch.full((1, 100, 64), float(np.log(0.001))))


def test_sound_prepared_in_another_way_is_refused() -> None:
    given = {"dim": 4, "sound_settings": SoundSettings(num_mels=40)}
    with pytest.raises(
        InputError, match=r"reads sound prepared with the default settings, and any seconds; .*num_mels=40"
    ):
        build(CONTENT_ENCODERS["yamnet"], {}, given, "encoder")
    build(CONTENT_ENCODERS["yamnet"], {}, {"dim": 4, "sound_settings": SoundSettings(seconds=3)}, "encoder")


def write_model(folder: Path, *models: str) -> Path:
    """Archives of models that keep one tensor inside and two in a file beside them."""
    inside = onnx.numpy_helper.from_array(np.arange(3, dtype=np.float32), "inside")
    beside = []
    for name, start in (("first", 0), ("second", 24)):
        tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[2, 3])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "model.data"), ("offset", str(start)), ("length", "24")):
            tensor.external_data.add(key=key, value=value)
        beside.append(tensor)
    model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], [], [inside, *beside]))
    path = folder / "model.onnx.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in models:
            archive.writestr(f"folder/{name}", model.SerializeToString())
        archive.writestr("folder/model.data", np.arange(12, dtype=np.float32).tobytes())
    return path


def test_tensors_of_an_archive_are_read(tmp_path: Path) -> None:
    found = read_onnx_archive(write_model(tmp_path, "model.onnx"))
    assert {name: value.tolist() for name, value in found.items()} == {
        "inside": [0, 1, 2],
        "first": [[0, 1, 2], [3, 4, 5]],
        "second": [[6, 7, 8], [9, 10, 11]],
    }


def test_archives_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\S+' has no place in this network \(3 unknown"):
        load_weights(YAMNet(), write_model(tmp_path, "model.onnx"))
    with pytest.raises(InputError, match="holds 2 ONNX models; accepted is one"):
        load_weights(YAMNet(), write_model(tmp_path, "a.onnx", "b.onnx"))
    (tmp_path / "model.onnx.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="it is truncated, damaged or something else"):
        load_weights(YAMNet(), tmp_path / "model.onnx.zip")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "name"),
    [("other/mp3_in_avi.avi", "Speech"), ("other/sample_demo_9.mp4", "Silence"), ("microlens/10034.mp4", "Music")],
)
def test_real_sound_is_recognised(published: YAMNet, shared_data: Path, file: str, name: str) -> None:
    sound = read_log_mel(shared_data / "videos" / file, SoundSettings())
    with torch.inference_mode():
        probabilities = published(heard(sound))[0].sigmoid()
    assert probabilities.argmax() == CLASSES[name]
    assert probabilities[CLASSES[name]] > 0.9
