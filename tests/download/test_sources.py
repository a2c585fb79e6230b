"""The base address comes from option, environment, file or registry, in this order."""

import pytest

from microlens.download.sources import find_source
from microlens.errors import InputError


def test_option_environment_file_and_registry_in_this_order(settings, monkeypatch):
    assert find_source().base == "https://recsys.westlake.edu.cn/"
    (settings / "download.toml").write_text('mirror = "https://file.example/data"\nhosts = ["files.example:8080"]\n')
    assert find_source().base == "https://file.example/data/"
    monkeypatch.setenv("MICROLENS_MIRROR", "http://environment.example:81/")
    assert find_source().base == "http://environment.example:81/"
    source = find_source("http://option.example")
    assert source.base == "http://option.example/"
    assert source.hosts == {"option.example", "recsys.westlake.edu.cn", "files.example:8080"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mirror = 3", "mirror: Input should be a valid string"),
        ("miror = 'x'", "miror: Unexpected keyword argument; accepted are mirror and hosts"),
        ("mirror = ", "cannot be read"),
        ("mirror = 'no address'", "download.toml: 'no address' is no http or https address"),
    ],
)
def test_a_wrong_file_is_an_error_with_its_key(settings, text, sentence):
    (settings / "download.toml").write_text(text)
    with pytest.raises(InputError, match=sentence):
        find_source()
