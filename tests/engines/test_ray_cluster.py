"""The Ray engine: on this machine, and on a cluster of two nodes with an S3 server."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from microlens.data.prepare import prepare
from microlens.engines.ray_cluster import RayEngine
from microlens.errors import InputError
from microlens.media.decoding import Settings
from microlens.media.processes import Killed
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release
from microlens.runs.feature_files import write_features
from microlens.verification.verify import verify
from tests.conftest import REPOSITORY
from tests.data.test_media_shards import bytes_of
from tests.engines.functions import Unreadable, broken, deadly, die_once, fail_once, logged, refuse, square

pytest.importorskip("ray", reason="the extra [scale] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's and moto's own code, in this process
SETTINGS = Settings(clips=ClipSettings(num_frames=2, size=32))
OPTIONS = ("--num-frames", "2", "--size", "32")
ITEMS = 70


@pytest.mark.slow
def test_a_job_on_this_machine_and_nothing_else_on_the_terminal() -> None:
    program = (
        "from microlens.engines.ray_cluster import RayEngine\n"
        "from tests.engines.functions import square\n"
        "assert sorted(RayEngine().map_items(square, range(40))) == [(i, i * i) for i in range(40)]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_cluster_that_does_not_answer_is_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InputError, match=f"no Ray cluster answers at '{address}'.*ray start --head"):
        list(RayEngine(address).map_items(square, [1]))


@pytest.fixture(scope="module")
def cluster(bucket: Any) -> Iterator[Any]:
    """A cluster of two nodes with one CPU each, which know the server of the bucket."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RAY_worker_niceness", "0")  # or tasks wait for every other process of a busy machine
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        cluster.wait_for_nodes()
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def engine(cluster: Any) -> RayEngine:
    return RayEngine(cluster.address)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of three shards, with a damaged video."""
    folder = tmp_path_factory.mktemp("synthetic") / "release"
    write_release(folder, users=60, items=ITEMS, seed=1)
    (folder / "videos" / "3.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def prepared(release: Path) -> Path:
    prepare(release, release.parent / "here", SETTINGS)
    return release.parent / "here"


@pytest.fixture(scope="module")
def bucket(release: Path) -> Iterator[Any]:
    """An S3 server that holds the release as ``s3://bucket/release``; its file system."""
    pytest.importorskip("moto", reason="moto is not installed")
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-nobody")
        system = s3fs.S3FileSystem()
        system.mkdir("bucket")
        system.put(str(release), "bucket/release", recursive=True)
        yield system
    server.stop()


@pytest.mark.published
def test_items_on_a_cluster(engine: RayEngine) -> None:
    assert sorted(engine.map_items(square, range(70))) == [(number, number**2) for number in range(70)]
    assert list(engine.map_items(square, [])) == []


@pytest.mark.published
def test_an_item_that_kills_its_process_is_named(engine: RayEngine) -> None:
    assert dict(engine.map_items(deadly, [1, 3, 5])) == {1: 1, 3: Killed("kills the process (exit status 9)"), 5: 5}
    # A small part of a job may have nothing else; locally this would be taken for a fault of the machine.
    assert dict(engine.map_items(deadly, [3])) == {3: Killed("kills the process (exit status 9)")}


@pytest.mark.published
def test_a_task_that_dies_or_fails_for_a_moment_is_repeated(engine: RayEngine, tmp_path: Path) -> None:
    for function in (die_once, fail_once):
        mark = tmp_path / function.__name__
        assert sorted(engine.map_shards(partial(function, mark), [1, 2, 3])) == [(1, 1), (2, 2), (3, 3)]
        assert mark.exists()


@pytest.mark.published
def test_errors_of_tasks_are_those_of_functions(engine: RayEngine) -> None:
    with pytest.raises(InputError, match=r"^1 is refused\.$"):
        list(engine.map_shards(refuse, [1]))
    with pytest.raises(RuntimeError, match=r"in a Ray task:(?s:.*)ZeroDivisionError"):
        list(engine.map_shards(broken, [1]))
    with pytest.raises(InputError, match=r"the Ray job failed: .*division"):
        list(engine.map_shards(square, [Unreadable()]))
    with pytest.raises(InputError, match="no machine of the Ray cluster has 3 CPUs"):
        list(engine.map_shards(square, [1], cpus=3))


@pytest.mark.published
def test_the_same_bytes_from_a_bucket_by_a_cluster(
    bucket: Any, engine: RayEngine, prepared: Path, tmp_path: Path
) -> None:
    prepare("s3://bucket/release", tmp_path / "there", SETTINGS, engine=engine, shards="s3://bucket/out")
    assert bytes_of(tmp_path / "there") == bytes_of(prepared)
    assert len(bucket.find("bucket/out")) == -(-ITEMS // 32)


@pytest.mark.published
def test_the_same_bytes_without_shards(engine: RayEngine, release: Path, prepared: Path, tmp_path: Path) -> None:
    prepare(release, tmp_path / "there", SETTINGS, engine=engine)
    assert bytes_of(tmp_path / "there") == bytes_of(prepared)


@pytest.mark.published
def test_the_same_verification(engine: RayEngine, release: Path, tmp_path: Path) -> None:
    here = verify(release, state=tmp_path / "here")
    there = verify(release, state=tmp_path / "there", engine=engine)
    assert there.as_dict() == here.as_dict()
    assert here.num_faults > 0


@pytest.mark.published
@pytest.mark.parametrize("per_frame", [False, True])
def test_the_same_features(engine: RayEngine, prepared: Path, tmp_path: Path, per_frame: bool) -> None:
    encoder, options = ("resnet18", {"source": "frame"}) if per_frame else ("x3d_xs", {})
    keywords: dict[str, Any] = {"options": options, "weights": "random", "missing": "skip", "per_frame": per_frame}
    for name, where in (("here", None), ("there", engine)):
        write_features(prepared, encoder, out=tmp_path / name, engine=where, **keywords)
    found = bytes_of(tmp_path / "there")
    assert found == bytes_of(tmp_path / "here")
    assert {Path(name).suffix for name in found} == {".npy", ".json"}


@pytest.mark.published
def test_a_lost_node_does_not_stop_the_job(cluster: Any, engine: RayEngine, tmp_path: Path) -> None:
    extra = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    cluster.wait_for_nodes()
    results = engine.map_shards(partial(logged, tmp_path / "log.txt"), range(40))
    found = [next(results)]
    cluster.remove_node(extra, allow_graceful=False)
    found += results
    assert sorted(found) == [(number, number) for number in range(40)]


@pytest.mark.published
def test_kill_9_of_the_driver_and_the_same_command_again(
    cluster: Any, release: Path, prepared: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    command = [sys.executable, "-m", "microlens", "data", "prepare", str(release), str(tmp_path / "there"), *OPTIONS]
    command += ["--engine", "ray", "--ray-address", cluster.address, "--shards", str(shards)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(shards.rglob("*.zip")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "there").exists()
    before = {path.name: path.stat().st_mtime_ns for path in shards.rglob("*.zip")}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    after = {path.name: path.stat().st_mtime_ns for path in shards.rglob("*.zip")}
    assert {name: after[name] for name in before} == before
    assert len(after) == 3
    assert bytes_of(tmp_path / "there") == bytes_of(prepared)
