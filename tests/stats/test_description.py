"""A dataset described: by the command, as JSON, as charts and as a page."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

import microlens as ml
from microlens.errors import InputError
from microlens.stats.plots import charts_of, drawing
from tests.conftest import REPOSITORY, random_sequences, write_pairs
from tests.data.test_prepare import run_command
from tests.documents import blocks
from tests.test_layers import modules_after

NAME = '<b>"tiny"</b>'


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of interactions without times, titles and videos."""
    folder = tmp_path_factory.mktemp("plain")
    ml.prepare(write_pairs(folder / "release", random_sequences(60, 40)), folder / "dataset")
    return folder / "dataset"


@pytest.fixture(scope="module")
def described(video_dataset: Path) -> ml.Description:
    return ml.describe(video_dataset)


def test_the_figures_of_a_dataset_with_videos(described: ml.Description, video_dataset: Path) -> None:
    manifest = ml.Dataset(video_dataset).manifest
    for size, name in ((described.size, "release"), (described.cut, "paper_protocol")):
        found = {"users": size.users, "items": size.items, "interactions": size.interactions}
        assert found == manifest["counts"][name]
    assert described.content == dict.fromkeys(("title", "tag", "likes", "views", "clips", "covers", "sound"), 14)
    assert described.videos is not None
    assert described.videos.orientations == {"portrait": 14}
    assert described.timeline is not None
    assert sum(described.timeline.interactions) == described.size.interactions
    assert sum(described.timeline.new_items) == described.size.items
    assert sum(described.sessions.counts) == described.size.users
    assert described.row["Video"] == "yes"
    assert described.scripts == {"title": {"Latin": 14}}
    assert described.missing == {}


def test_what_is_missing_is_named(plain: Path) -> None:
    described = ml.describe(plain)
    assert described.cut.sessions.most == 13 < described.size.sessions.most
    assert described.missing == {
        "interactions over time": "the release has no timestamps",
        "titles": "no item has a title",
        "tags": "no item has a tag",
        "durations, resolutions, orientation and sound of videos": "there are no videos",
    }
    assert {chart.name for chart in charts_of(described)} == {"popularity", "sessions", "cold", "content"}


def test_json_holds_all_figures(described: ml.Description, tmp_path: Path) -> None:
    described.write_json(tmp_path / "new" / "figures.json")
    written = json.loads((tmp_path / "new" / "figures.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(asdict(described)))
    assert written["size"]["sessions"]["number"] == 24


def test_the_page_needs_nothing_else(described: ml.Description, tmp_path: Path) -> None:
    described.write_html(tmp_path / "new" / "page.html")
    page = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://(?!www\.w3\.org)", page)
    assert "<script" not in page
    assert page.count("<svg") == len(charts_of(described)) == 12
    assert page.count("<tr") == 1 + 22 + 1 + 8 + 1 + 3
    assert re.search(r'<tr class="own"><th scope="row">synthetic</th><td><b>&#10003;</b></td><td>&ndash;</td>', page)
    assert "Not shown" not in page


def test_the_page_of_a_plain_dataset(plain: Path, tmp_path: Path) -> None:
    described = ml.describe(plain)
    described = type(described)(**{**vars(described), "name": NAME})
    described.write_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert NAME not in page
    assert "&lt;b&gt;&quot;tiny&quot;&lt;/b&gt;: what the dataset holds" in page
    assert "Not shown: interactions over time (the release has no timestamps); titles" in page
    assert "Likes, views" not in page


def test_charts_are_drawn_the_same_every_time(described: ml.Description) -> None:
    for chart in charts_of(described):
        assert drawing(chart) == drawing(chart), chart.name
        assert "nan" not in drawing(chart).lower()


def test_pictures_have_one_width(described: ml.Description, tmp_path: Path) -> None:
    paths = described.write_charts(tmp_path / "new" / "png")
    assert [path.name for path in paths] == [f"{chart.name}.png" for chart in charts_of(described)]
    assert sorted(path.name for path in (tmp_path / "new" / "png").iterdir()) == sorted(path.name for path in paths)
    for path in paths:
        with Image.open(path) as picture:
            assert picture.width == 800


def test_the_command_prints_and_writes_everything(video_dataset: Path, tmp_path: Path) -> None:
    options = ("--html", tmp_path / "page.html", "--png", tmp_path / "png", "--json", tmp_path / "figures.json")
    status, out, err = run_command("data", "stats", video_dataset, *options)
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["Reasoner", "yes", "-", "yes", "no", "no", "3K", "5K", "58K", "Micro-video", "en"] in lines
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    own = f"synthetic yes - yes yes yes 24 14 {figures['row']['#inter.']} Latin script"
    assert own.split() in lines
    assert ["users", "24", "24"] in lines
    assert "title 100 %" in out
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "png", "figures.json"}


def test_the_command_names_what_is_missing(plain: Path) -> None:
    status, out, _ = run_command("data", "stats", plain)
    assert status == 0
    assert "not described: interactions over time (the release has no timestamps)" in out


def test_nothing_is_written_if_a_page_cannot_be(plain: Path, tmp_path: Path) -> None:
    status, out, err = run_command("data", "stats", plain, "--html", tmp_path, "--json", tmp_path / "figures.json")
    assert (status, out) == (2, "")
    assert "is a folder; name the HTML file to write" in err
    assert not (tmp_path / "figures.json").exists()


def test_charts_need_matplotlib(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = ml.describe(plain)
    monkeypatch.setattr("microlens.page.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'microlens\[html\]'"):
        described.write_charts(tmp_path / "png")
    assert not (tmp_path / "png").exists()


def test_no_dataset_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a prepared dataset"):
        ml.describe(tmp_path)


def test_the_command_loads_no_torch(plain: Path, tmp_path: Path) -> None:
    arguments = ["microlens", "data", "stats", str(plain), "--html", str(tmp_path / "page.html")]
    loaded = modules_after(f"sys.argv = {arguments!r}; from microlens.cli import main; main()")
    assert {"polars", "matplotlib"} <= loaded
    assert not loaded & {"torch", "lightning", "transformers"}


def test_the_document_runs(video_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "microlens-50k").symlink_to(video_dataset)
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in blocks(REPOSITORY / "docs" / "stats.md") if block.language == "python")
    exec(block.text, {})
    assert Path("microlens-50k.html").is_file()


@pytest.mark.real_data
def test_microlens_50k_is_described_as_published(shared_data: Path, tmp_path: Path) -> None:
    described = ml.describe(ml.prepare(shared_data / "microlens-50k", tmp_path / "dataset"))
    size, cut, cold = described.size, described.cut, described.cold
    assert (size.users, size.items, size.interactions) == (50_000, 19_220, 359_708)
    assert (size.sessions.least, size.sessions.most) == (5, 218)
    assert (described.content["title"], described.content["likes"], described.num_tags) == (19_220, 19_220, 23)
    assert (cut.users, cut.items, cold.unseen) == (50_000, 19_099, 768)
    assert f"{cold.share('valid'):.2%} {cold.share('test'):.2%}" == "1.75% 4.52%"
    assert [described.row[name] for name in ("#user", "#item", "#inter.")] == ["50K", "19K", "360K"]
