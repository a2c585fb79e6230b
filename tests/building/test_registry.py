"""Names in a configuration: the package's own, those of entry points, and import paths."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microlens.building import LazyValues, build, options_of
from microlens.building import registry as registry_module
from microlens.building.registry import Registry, path_of
from microlens.encoders import ENCODER_REGISTRY
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDER_REGISTRY, RECOMMENDERS
from microlens.recommenders.base import Recommender
from microlens.recommenders.popularity import Popularity

MODULE = """
import os
from microlens.encoders.id import IdEncoder
from microlens.recommenders.base import Recommender
from microlens.recommenders.popularity import Popularity


class Mine(Popularity):
    class Inner(Popularity):
        pass


class Forgetful(Recommender):
    pass


def made(*, item_encoder) -> Mine:
    raise AssertionError


def unannotated(*, item_encoder):
    raise AssertionError


def unresolved() -> "Nowhere":
    raise AssertionError


an_instance = IdEncoder(num_items=1, dim=1)
"""


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with a module ``written_models``; no folder of the search path but by what is tested."""
    (tmp_path / "written_models.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("written_")]:
        del sys.modules[name]


@pytest.fixture
def install(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a package of a name that declares entry points for recommenders."""
    monkeypatch.syspath_prepend(working_folder)

    def write(package: str, **entries: str) -> None:
        folder = working_folder / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (folder / "entry_points.txt").write_text("[microlens.recommenders]\n" + "\n".join(lines) + "\n")

    return write


def found(name: str) -> Callable[..., Recommender]:
    return RECOMMENDER_REGISTRY.find(name, "model.name")


def refused(name: str, registry: Registry[object] = RECOMMENDER_REGISTRY) -> str:  # type: ignore[assignment]
    with pytest.raises(InputError) as error:
        registry.find(name, "model.name")
    return str(error.value)


def test_own_names_are_found_without_looking_at_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(**_: str) -> None:
        raise AssertionError

    monkeypatch.setattr(registry_module, "entry_points", look)
    assert all(found(name) is constructor for name, constructor in RECOMMENDERS.items())


def test_entry_points_are_found_and_never_replace_own_names(install: Callable[..., None]) -> None:
    install("others", mine="written_models:Mine", popularity="written_models:Mine", made="written_models:made")
    assert found("mine").__name__ == "Mine"
    assert found("made").__name__ == "made"
    assert found("popularity") is Popularity
    assert sorted(RECOMMENDER_REGISTRY.offered()) == ["made", "mine"]
    assert ENCODER_REGISTRY.offered() == {}


def test_a_name_of_two_packages_has_to_be_said_in_full(install: Callable[..., None]) -> None:
    install("others", mine="written_models:Mine", same="written_models:Mine")
    install("more", mine="written_models:Mine.Inner", same="written_models:Mine")
    told = refused("mine")
    assert "model.name is 'mine', an entry point of more and others; choose one by its import path" in told
    assert "'written_models:Mine" in told
    assert found("same").__name__ == "Mine"


def test_an_entry_point_that_leads_nowhere_is_named(install: Callable[..., None]) -> None:
    install("others", gone="written_nowhere:Mine", wrong="written_models:an_instance")
    assert refused("gone").startswith(
        "model.name is 'gone', an entry point of others, but the module 'written_nowhere' cannot be imported "
    )
    assert "is no recommender" in refused("wrong")


@pytest.mark.parametrize(
    ("path", "name"),
    [("Mine", "Mine"), ("Mine.Inner", "Mine.Inner"), ("made", "made"), ("Popularity", "Popularity")],
)
def test_import_paths_lead_to_modules_in_the_working_folder(working_folder: Path, path: str, name: str) -> None:
    assert found(f"written_models:{path}").__qualname__ == name
    assert sys.path[0] == str(working_folder)
    assert sys.path.count(str(working_folder)) == 1


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("written_models:Mien", "the module 'written_models' has no 'Mien'; did you mean 'Mine'?"),
        ("written_models:", "the module 'written_models' has no ''; accepted: Forgetful, Mine"),
        ("written_models:Mine.Other", "has no 'Mine.Other'"),
        ("written_nothing:Mine", "cannot be imported (ModuleNotFoundError: No module named 'written_nothing')."),
        (":Mine", "cannot be imported (ValueError: Empty module name)."),
        (
            "written_broken:Mine",
            "the module 'written_broken' cannot be imported (ZeroDivisionError: division by zero).",
        ),
        ("written_script:Mine", "the module 'written_script' cannot be imported (SystemExit: 3)."),
        (
            "os:system",
            "but system is no recommender; accepted: a subclass of Recommender, or a function annotated as",
        ),
        ("written_models:os.getcwd", "getcwd is no recommender"),
        ("written_models:IdEncoder", "IdEncoder is no recommender"),
        ("written_models:unannotated", "unannotated is no recommender"),
        ("written_models:unresolved", "unresolved is no recommender"),
        ("written_models:an_instance", "is no recommender"),
        (
            "written_models:Forgetful",
            "but Forgetful does not define last_states, which every recommender must; see docs/recommenders.md.",
        ),
        ("__main__:NotThere", "a class defined in a script exists only in that script"),
    ],
)
def test_import_paths_that_lead_nowhere_are_refused(working_folder: Path, path: str, told: str) -> None:
    (working_folder / "written_broken.py").write_text("1 / 0\n")
    (working_folder / "written_script.py").write_text("import sys\nsys.exit(3)\n")
    sentence = refused(path)
    assert sentence.startswith(f"model.name is '{path}', but ")
    assert told in sentence


def test_an_encoder_is_no_recommender_and_the_other_way_round(working_folder: Path) -> None:
    assert ENCODER_REGISTRY.find("written_models:IdEncoder", "encoder.name").__name__ == "IdEncoder"
    with pytest.raises(InputError, match="Mine is no item encoder; accepted: a subclass of ItemEncoder"):
        ENCODER_REGISTRY.find("written_models:Mine", "encoder.name")


def test_unknown_names_are_told_the_nearest(install: Callable[..., None]) -> None:
    install("others", windowed="written_models:Mine")
    assert refused("windowd") == "model.name is 'windowd', which is unknown; did you mean 'windowed'?"
    assert refused("sasrek") == "model.name is 'sasrek', which is unknown; did you mean 'sasrec'?"
    told = refused("zzz")
    assert "accepted: als, " in told
    assert "windowed" in told
    assert told.endswith("or an import path, package.module:Class.")


def test_the_path_of_a_class_leads_back_to_it(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert path_of(Popularity) == "microlens.recommenders.popularity:Popularity"
    inner = found("written_models:Mine.Inner")
    assert path_of(inner) == "written_models:Mine.Inner"

    class Local(Popularity):
        pass

    with pytest.raises(InputError, match="Local is defined inside a function; define it at the top level of a module"):
        path_of(Local)
    Local.__module__, Local.__qualname__ = "__main__", "OfTheScript"
    monkeypatch.setattr(sys.modules["__main__"], "OfTheScript", Local, raising=False)
    assert path_of(Local) == "__main__:OfTheScript"
    assert found("__main__:OfTheScript") is Local


def test_parameters_are_options_only_with_a_type() -> None:
    def untyped(*, layers=2) -> None:  # type: ignore[no-untyped-def]
        pass

    def unresolved(*, layers: "Nowhere" = 2) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    def any_more(*arguments: int, layers: int = 2, **options: int) -> None:
        pass

    with pytest.raises(InputError, match="untyped has a parameter 'layers' without a type; options need one"):
        options_of(untyped, ())
    with pytest.raises(InputError, match=r"the types of .*unresolved cannot be resolved"):
        options_of(unresolved, ())
    assert list(options_of(any_more, ())) == ["layers"]


def test_values_that_a_constructor_does_not_take_are_not_computed() -> None:
    class Taker:
        def __init__(self, *, size: int, extra: str, option: float) -> None:
            self.all = (size, extra, option)

    computed = []
    given = LazyValues({"size": lambda: computed.append("size") or 3, "titles": lambda: computed.append("titles")})
    assert build(Taker, {"option": 0.5}, given.plus("extra", "more"), "table").all == (3, "more", 0.5)
    assert computed == ["size"]
    assert list(given) == ["size", "titles"]
    assert len(given) == 2
