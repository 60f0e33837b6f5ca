"""Ids of the Hub are taken apart and fetched or sent when asked for; no test does either."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError

import sae
from sae.errors import ConfigError, InputError
from sae.formats.hub import located, parse, upload

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


@pytest.fixture
def sent(monkeypatch):
    """A Hub that takes everything for `me/mine`, with what it was sent."""
    taken = []

    def create_repo(repository, private, exist_ok):
        taken.append((repository, private, exist_ok))
        if repository != "me/mine":
            raise LocalTokenNotFoundError("Token is required\nbut no token found")

    def upload_folder(*, repo_id, folder_path, path_in_repo, revision, allow_patterns, **_):
        names = sorted(each.relative_to(folder_path).as_posix() for each in folder_path.rglob("*"))
        kept = list(huggingface_hub.utils.filter_repo_objects(names, allow_patterns=allow_patterns))
        taken.append((repo_id, path_in_repo, revision, kept))
        return "https://hub/me/mine/commit/1"

    monkeypatch.setattr(huggingface_hub, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload_folder)
    return taken


def test_a_dictionary_alone_is_sent_to_a_private_repository(sent, tmp_path):
    shutil.copytree(TOPK, tmp_path / "d")
    (tmp_path / "d" / "provenance.json").write_text("{}")
    (tmp_path / "d" / "state").mkdir()
    (tmp_path / "d" / "state" / "config.json").write_text("{}")
    assert upload(tmp_path / "d", "hf://me/mine/layers.1@wip") == "https://hub/me/mine/commit/1"
    made, files = sent
    assert made == ("me/mine", True, True)
    assert files == ("me/mine", "layers.1", "wip", ["cfg.json", "sae.safetensors"])


def test_an_upload_that_fails_says_so_in_one_line(sent, tmp_path):
    with pytest.raises(InputError, match="hf auth login") as caught:
        upload(tmp_path, "hf://other/mine")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no id of the Hub"):
        upload(tmp_path, "mine")
    assert len(sent) == 1
