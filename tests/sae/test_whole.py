"""A file is there whole, or as it was before."""

from pathlib import Path

import pytest

from sae.whole import write_json, write_text


def test_what_is_written_replaces_what_was_there_and_leaves_no_draft(tmp_path):
    path = tmp_path / "a.json"
    for content in ({"old": 1}, {"new": ["ä", None]}):
        write_json(path, content)
    assert path.read_bytes() == b'{\n  "new": [\n    "\\u00e4",\n    null\n  ]\n}\n'
    write_json(path, {"at": Path("a")}, indent=None, default=str)
    assert path.read_text(encoding="utf-8") == '{"at": "a"}\n'
    write_text(path, "ä")
    assert path.read_bytes() == "ä".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(TypeError):
        write_json(path, {"at": Path("a")})

    def torn(self, text, encoding):
        with self.open("w") as file:
            file.write(text[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", torn)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
