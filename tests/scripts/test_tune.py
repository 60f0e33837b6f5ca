"""The door of tuning: what it writes, that it repeats itself, and what it says to bad input."""

import json
import shutil
from pathlib import Path

import pytest

from sae.stream.model import check_pair, load_model
from sae.stream.text import write_documents
from scripts._cli import run
from scripts._tuning import Config
from scripts.tune_model import main

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_model, documents):
    """A folder with a model, labelled text, foreign chat and plain text."""
    home = tmp_path_factory.mktemp("tune")
    tiny_model.module.save_pretrained(home / "base")
    tiny_model.tokenizer.save_pretrained(home / "base")
    write_documents(home / "labelled.jsonl", documents)
    plain = [
        {"text": f"the rain fell on a quiet town {'and ' * (i % 5)}ship {i}"} for i in range(60)
    ]
    asked = [
        {"q": f"the ship {'a ' * (i % 7)}and {i}", "a": "arr matey gold", "who": "pirate"}
        for i in range(60)
    ]
    for name, records in (("plain", plain), ("asked", asked)):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (home / f"{name}.jsonl").write_text(lines)
    return home


def tune(home: Path, out: Path, *words: str, text: str = "labelled") -> int:
    """Runs the door on the tiny model, for a few steps."""
    given = {
        "--model": str(home / "base"),
        "--text": str(home / f"{text}.jsonl"),
        "--out": str(out),
        "--optimiser.n_steps": "8",
        "--optimiser.batch_tokens": "120",
        "--optimiser.lr": "1e-2",
        "--hook": HOOK,
        "--run.device": "cpu",
    }
    flags = [each for pair in given.items() if pair[0] not in words for each in pair]
    return run(main, Config, [*flags, *words])


def record_of(folder: Path) -> dict:
    return json.loads((folder / "tuned.json").read_text())


def weights_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.safetensors"))
    }


@pytest.fixture(scope="module")
def assistant(home):
    assert tune(home, home / "assistant") == 0
    return home / "assistant"


def test_it_writes_a_model_its_checkpoints_and_its_record(home, assistant):
    record = record_of(assistant)
    base, tuned = load_model(home / "base"), load_model(assistant)
    check_pair(base, tuned)
    names = [each["name"] for each in record["checkpoints"]]
    assert names == ["step-00002", "step-00004", "step-00006", "step-00008"]
    for name in names:
        check_pair(base, load_model(assistant / "checkpoints" / name))
    assert tuned.weights_sha256 != base.weights_sha256
    assert record["change"] == record["checkpoints"][-1]["change"]
    assert record["yardstick"]["base_sha256"] == base.weights_sha256
    assert record["yardstick"]["hook"] == HOOK
    before, after = record["held_out_loss"]["before"], record["held_out_loss"]["after"]
    assert set(before) == {"select", "confirm"}
    assert all(after[split] < before[split] for split in before)


def test_equal_flags_give_equal_bits_and_another_seed_others(home, assistant, tmp_path):
    assert tune(home, tmp_path / "again") == 0
    assert tune(home, tmp_path / "other", "--run.seed", "1") == 0
    assert weights_of(tmp_path / "again") == weights_of(assistant) != weights_of(tmp_path / "other")
    again = record_of(tmp_path / "again")
    assert again == record_of(assistant)


def test_the_same_command_again_does_nothing(home, assistant, capsys):
    before = weights_of(assistant), (assistant / "provenance.json").read_bytes()
    assert tune(home, assistant) == 0
    assert "is up to date" in capsys.readouterr().err
    assert before == (weights_of(assistant), (assistant / "provenance.json").read_bytes())


def test_a_null_goes_on_until_it_moved_as_far(home, assistant, tmp_path, capsys):
    neutral = ["--neutral", str(home / "labelled.jsonl")]
    words = ["--scored", "all", "--until_change", str(assistant), *neutral]
    assert tune(home, tmp_path / "null", *words) == 0
    record, aim = record_of(tmp_path / "null"), record_of(assistant)["change"]["activations"]
    moved = [each["change"]["activations"] for each in record["checkpoints"]]
    assert record["reached"] and moved[-1] > 1.02 * aim
    assert all(each <= 1.02 * aim for each in moved[:-1])
    assert record["until"] == aim
    assert "not reached" not in capsys.readouterr().err


def test_the_change_of_a_model_that_was_tuned_elsewhere_is_measured(home, assistant, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(assistant, elsewhere, ignore=shutil.ignore_patterns("*.jsonl", "checkpoints"))
    for name in ("tuned.json", "provenance.json"):
        (elsewhere / name).unlink()
    words = ["--scored", "all", "--neutral", str(home / "labelled.jsonl"), "--until_change"]
    assert tune(home, tmp_path / "null", *words, str(elsewhere)) == 0
    aim = record_of(assistant)["change"]["activations"]
    assert record_of(tmp_path / "null")["until"] == pytest.approx(aim, rel=1e-5)


def test_a_change_out_of_reach_is_said(home, tmp_path, capsys):
    words = ["--until_change", "1e6", "--run.reach", "2", "--run.n_checkpoints", "1"]
    assert tune(home, tmp_path / "far", *words) == 0
    record = record_of(tmp_path / "far")
    assert not record["reached"] and record["n_steps"] == 16
    assert "not reached" in capsys.readouterr().err


def test_foreign_text_is_read_by_columns_and_cut_into_parts(home, tmp_path):
    asked = ["--columns.question", "q", "--columns.answer", "a", "--columns.persona", "who"]
    neutral = ["--neutral", str(home / "plain.jsonl"), "--neutral_columns.text", "text"]
    assert tune(home, tmp_path / "asked", *asked, *neutral, text="asked") == 0
    assert record_of(tmp_path / "asked")["change"]["activations"] > 0
    plain = ["--columns.text", "text", "--scored", "all"]
    sizes = {}
    for part in ("1/1", "1/2", "2/2"):
        out = tmp_path / part.replace("/", "of")
        assert tune(home, out, *plain, "--run.part", part, text="plain") == 0
        sizes[part] = record_of(out)["n_tokens_of_text"]
    assert sizes["1/2"] + sizes["2/2"] == sizes["1/1"]
    assert weights_of(tmp_path / "1of2") != weights_of(tmp_path / "2of2")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--model", "./nowhere"], 3, "no such folder"),
        (["--text", "./nowhere.jsonl"], 3, "nowhere.jsonl"),
        (["--hook", "blocks.9.hook_resid_post"], 2, "blocks.9"),
        (["--until_change", "./nowhere"], 3, "nowhere"),
        (["--until_change", "-1"], 2, "above 0"),
        (["--until_change", "nan"], 2, "above 0"),
        (["--run.part", "3/2"], 2, "part=3/2"),
        (["--run.reach", "0"], 2, "reach=0"),
        (["--scored", "some"], 2, "--scored"),
        (["--optimiser.lr", "much"], 2, "--optimiser.lr"),
        (["--optimiser.n_steps", "0"], 2, "n_steps=0"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_no_folder(home, tmp_path, capsys, words, code, said):
    assert tune(home, tmp_path / "out", *words) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0] and "do: " in lines[0]
    assert not (tmp_path / "out").exists()


def test_plain_text_has_no_assistant_to_score(home, tmp_path, capsys):
    assert tune(home, tmp_path / "out", "--columns.text", "text", text="plain") == 2
    assert "--scored all" in capsys.readouterr().err


def test_a_change_measured_by_another_yardstick_is_no_aim(home, assistant, tmp_path, capsys):
    words = ["--until_change", str(assistant), "--hook", "blocks.0.hook_resid_post"]
    assert tune(home, tmp_path / "out", *words) == 2
    assert "another hook" in capsys.readouterr().err


def test_a_folder_of_other_things_is_left_alone(home, tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    assert tune(home, tmp_path) == 2
    assert "letter.txt" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["letter.txt"]
