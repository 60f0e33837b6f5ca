"""Ids of the Hub are taken apart and fetched when asked for; no test fetches anything."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

import sae
from sae.errors import ConfigError, InputError
from sae.formats.hub import located, parse

TOPK = Path(__file__).parent / "golden" / "sparsify" / "given_width" / "layers.1"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("hf://org/repo", ("org/repo", "", None)),
        ("hf://org/repo/", ("org/repo", "", None)),
        ("hf://org/repo@v1.0", ("org/repo", "", "v1.0")),
        ("hf://org/repo/layers.12@refs/pr/3", ("org/repo", "layers.12", "refs/pr/3")),
        ("hf://a_b/c-d.e/x/y=1/z", ("a_b/c-d.e", "x/y=1/z", None)),
    ],
)
def test_the_parts_of_an_id(url, parts):
    assert parse(url) == parts


@pytest.mark.parametrize(
    "url",
    [
        "hf://org", "hf://", "hf://org/../etc", "hf://org/repo/../../x", "hf://org/repo/*",
        "hf://org/repo//x", "hf://org/repo@", "hf://org/repo@..", "hf://org/repo/a b", "org/repo",
    ],
)  # fmt: skip
def test_no_id(url):
    with pytest.raises(ConfigError, match="no id of the Hub"):
        parse(url)


def test_a_path_is_itself():
    assert located("some/folder") == Path("some/folder")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub of one repository, with a list of what was asked of it."""
    asked = []

    def snapshot_download(repository, revision, allow_patterns):
        asked.append((repository, revision, allow_patterns))
        if repository != "org/repo":
            response = type("Response", (), {"headers": {}, "request": None})()
            raise RepositoryNotFoundError("404: not\nfound", response=response)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    shutil.copytree(TOPK, tmp_path / "layers.1")
    return asked


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_dictionary_is_read_from_the_hub(hub, as_path):
    dictionary, meta = sae.read(as_path("hf://org/repo/layers.1@main"))
    assert dictionary.config.d_sae == 19
    assert meta["hook"] == "blocks.1.hook_resid_post"
    ((repository, revision, patterns),) = hub
    assert (repository, revision) == ("org/repo", "main")
    assert "layers.1/sae.safetensors" in patterns
    assert not any("*" in each or ".py" in each for each in patterns)


def test_what_the_hub_does_not_have(hub):
    for url in ("hf://org/other", "hf://org/repo/layers.9"):
        with pytest.raises(InputError) as caught:
            sae.read(url)
        assert "\n" not in str(caught.value)
        assert url in str(caught.value)
