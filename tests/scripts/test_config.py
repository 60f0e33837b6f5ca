"""From files and flags to a config; tagged unions above all."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from sae.dictionary.config import (
    BatchTopKConfig,
    ReluConfig,
    SaeConfig,
    SparsityConfig,
    TopKConfig,
)
from sae.errors import ConfigError
from scripts._config import parse

MEMBERS = get_args(SparsityConfig)
KINDS = {get_args(get_type_hints(each)["kind"])[0]: each for each in MEMBERS}


@dataclass(frozen=True)
class Fit:
    """A run in small."""

    out: Path = Path("runs/out")
    """Folder that is written."""
    lr: float = 1e-3
    """Learning rate."""
    names: tuple[str, ...] = ()
    """Names."""
    sae: SaeConfig = SaeConfig(d_in=8, d_sae=64, sparsity=TopKConfig(k=4))
    """The dictionary."""
    second: SaeConfig | None = None
    """Another one."""


@dataclass(frozen=True)
class Bare:
    """A run that must be told its sparsity and folder."""

    out: Path
    """Folder that is written."""
    sparsity: SparsityConfig
    """How latents fire."""


@dataclass(frozen=True)
class Strict:
    """A config that checks itself."""

    share: float = field(default=0.5)
    """A share."""

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}, not between 0 and 1")


def example_of(kind):
    """Values for the required fields of a member: whatever a positive 3 can be."""
    hints = get_type_hints(KINDS[kind])
    return {
        each.name: hints[each.name](3)
        for each in dataclasses.fields(KINDS[kind])
        if each.default is dataclasses.MISSING
    }


@pytest.fixture
def yaml_file(tmp_path):
    def write(name="config.yaml", **values):
        path = tmp_path / name
        path.write_text(json.dumps(values))
        return str(path)

    return write


def refusal(config_class, *words):
    with pytest.raises(ConfigError) as caught:
        parse(config_class, words)
    assert "\n" not in str(caught.value)
    return caught.value


def test_without_words_the_defaults_are_taken():
    assert parse(Fit, []) == Fit()


def test_flags_win_over_files_and_later_files_over_earlier(yaml_file):
    first = yaml_file("a.yaml", lr=0.1, names=["a"], sae={"d_sae": 32})
    second = yaml_file("b.yaml", lr=0.2, sae={"d_in": 4})
    config = parse(Fit, ["--config", first, f"--config={second}", "--names", '["b", "c"]'])
    assert config == Fit(lr=0.2, names=("b", "c"), sae=SaeConfig(4, 32, TopKConfig(k=4)))


def test_yaml_numbers_read_as_people_write_them(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("lr: 1e-4  # small\nout: runs/other\n")
    assert parse(Fit, ["--config", str(path)]) == Fit(lr=1e-4, out=Path("runs/other"))


@pytest.mark.parametrize("kind", KINDS)
class TestEveryMemberOfATaggedUnion:
    def test_a_default_stays_when_nothing_is_said(self, kind):
        base = KINDS[kind](**example_of(kind))
        made = dataclasses.make_dataclass("Made", [("sparsity", SparsityConfig, base)], frozen=True)
        assert parse(made, []).sparsity == base

    def test_what_is_printed_reads_back(self, kind, tmp_path, capsys):
        words = [f"--sae.sparsity.kind={kind}"]
        words += [f"--sae.sparsity.{name}={value}" for name, value in example_of(kind).items()]
        with pytest.raises(SystemExit) as end:
            parse(Fit, [*words, "--print_config"])
        assert end.value.code == 0
        path = tmp_path / "printed.yaml"
        path.write_text(capsys.readouterr().out)
        assert parse(Fit, ["--config", str(path)]) == parse(Fit, words)
        assert type(parse(Fit, words).sae.sparsity) is KINDS[kind]

    def test_a_single_flag_changes_its_field_and_nothing_else(self, kind, yaml_file):
        before = KINDS[kind](**example_of(kind))
        path = yaml_file(sae={"sparsity": dataclasses.asdict(before)})
        for name, value in example_of(kind).items():
            other = type(value)(2)
            config = parse(Fit, ["--config", path, f"--sae.sparsity.{name}", str(other)])
            assert config.sae.sparsity == dataclasses.replace(before, **{name: other})

    def test_another_kind_starts_afresh(self, kind, yaml_file):
        other = next(each for each in KINDS if each != kind)
        path = yaml_file(sae={"sparsity": dataclasses.asdict(KINDS[other](**example_of(other)))})
        words = [f"--sae.sparsity.{name}={value}" for name, value in example_of(kind).items()]
        config = parse(Fit, ["--config", path, "--sae.sparsity.kind", kind, *words])
        assert config.sae.sparsity == KINDS[kind](**example_of(kind))

    def test_it_can_be_asked_for_by_flags_alone(self, kind):
        words = [f"--sparsity.{name}={value}" for name, value in example_of(kind).items()]
        config = parse(Bare, ["--out", "x", *words, f"--sparsity.kind={kind}"])
        assert config == Bare(Path("x"), KINDS[kind](**example_of(kind)))

    def test_help_names_its_flags(self, kind, capsys):
        with pytest.raises(SystemExit) as end:
            parse(Fit, [f"--sae.sparsity.kind={kind}", "--help"])
        assert end.value.code == 0
        shown = capsys.readouterr().out
        assert all(f"--sae.sparsity.{name}" in shown for name in example_of(kind))
        assert ", ".join(KINDS) in " ".join(shown.split())


def test_a_later_file_may_say_less_and_keeps_the_kind(yaml_file):
    first = yaml_file("a.yaml", sae={"sparsity": {"kind": "batch_topk", "k": 3}})
    second = yaml_file("b.yaml", sae={"sparsity": {"threshold_beta": 0.5}})
    config = parse(Fit, ["--config", first, "--config", second])
    assert config.sae.sparsity == BatchTopKConfig(k=3, threshold_beta=0.5)


def test_a_kind_given_by_flag_completes_a_file_without_one(yaml_file):
    path = yaml_file(sae={"sparsity": {"l1": 0.25}})
    config = parse(Fit, ["--sae.sparsity.kind", "relu", "--config", path])
    assert config.sae.sparsity == ReluConfig(l1=0.25)


def test_a_file_without_a_kind_is_told_the_kinds(yaml_file):
    error = refusal(Fit, "--config", yaml_file(sae={"sparsity": {"k": 3}}))
    assert (error.asked, error.found) == ("sae.sparsity", "no kind")
    assert error.do == f"set sae.sparsity.kind to one of {', '.join(KINDS)}"


def test_a_required_union_left_out_is_told_the_kinds():
    assert refusal(Bare, "--out", "x").do.endswith(", ".join(KINDS))


def test_help_works_where_the_kind_is_still_open(capsys):
    with pytest.raises(SystemExit):
        parse(Bare, ["--help"])
    assert "{" + ",".join(KINDS) + "}" in capsys.readouterr().out


def test_an_unknown_kind_is_told_the_nearest():
    error = refusal(Fit, "--sae.sparsity.kind", "tokp")
    assert error.do.startswith("did you mean topk?")


def test_an_optional_config_is_absent_until_one_of_its_flags_is_given(yaml_file):
    words = ["--second.d_in=2", "--second.d_sae=8", "--second.sparsity.kind=topk"]
    config = parse(Fit, [*words, "--second.sparsity.k=1"])
    assert config.second == SaeConfig(2, 8, TopKConfig(k=1))
    assert parse(Fit, ["--config", yaml_file(second=None)]).second is None


@dataclass(frozen=True)
class Lists:
    """Lists of several types."""

    names: tuple[str, ...] = ()
    """Words."""
    numbers: list[int] | None = None
    """Numbers."""
    one: int = 0
    """No list."""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--names", "a"], Lists(("a",))),
        (["--names", "a=b", "[c", "1", "--one", "1"], Lists(("a=b", "[c", "1"), None, 1)),
        (["--names", "[a, b]", "--numbers", "3", "-4"], Lists(("a", "b"), [3, -4])),
        (["--names", "--one=2"], Lists((), None, 2)),
        (["--names=[a]"], Lists(("a",))),
    ],
)
def test_a_list_takes_the_words_after_its_flag(words, expected):
    assert parse(Lists, words) == expected


@pytest.mark.parametrize(
    ("words", "asked", "do"),
    [
        (["--sae.sparsty.k", "3"], "--sae.sparsty.k", "did you mean --sae.sparsity.k?"),
        (["--k", "3"], "--k", "did you mean --sae.sparsity.k?"),
        (["--sae.sparsity", "topk"], "--sae.sparsity", "set sae.sparsity.k, sae.sparsity.kind"),
        (["--qqqq", "3"], "--qqqq", "see --help for the keys there are"),
        (["--sae.d_in", "many"], "--sae.d_in", "give a value of type int"),
        (["--names=a"], "--names", "give a value of type tuple[str, ...]"),
        (["--sae.d_in", "1", "2"], "the command line", "see --help"),
        (["stray"], "the command line", "see --help"),
        (["--lr"], "the command line", "see --help"),
        (["--config"], "--config", "give the path of a YAML file"),
        (["--config", "none.yaml"], "--config none.yaml", "give the path of a YAML file"),
        (["--sae.d_sae", "2"], "k=4", "give an integer of at least 1 and at most 2"),
    ],
)
def test_a_wrong_word_is_answered_in_one_line(words, asked, do):
    error = refusal(Fit, *words)
    assert (error.asked, error.do) == (asked, do)


def test_a_config_that_refuses_itself_is_a_config_error():
    assert refusal(Strict, "--share", "2").found == "share is 2.0, not between 0 and 1"


def test_a_required_value_left_out_is_asked_for():
    error = refusal(Bare, "--sparsity.kind=topk", "--sparsity.k=3")
    assert (error.asked, error.found) == ("--out", "no value")


@pytest.mark.parametrize(
    ("text", "found"),
    [("sae: [", "no YAML"), ("- 1\n- 2\n", "a list"), ("just words", "a str")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, found):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    error = refusal(Fit, "--config", str(path))
    assert str(path) in error.asked
    assert error.found.startswith(found)


def test_an_unknown_key_in_a_file_is_told_the_nearest(yaml_file):
    error = refusal(Fit, "--config", yaml_file(sae={"d_sea": 32}))
    assert (error.asked, error.do) == ("sae.d_sea", "did you mean sae.d_sae?")


def test_an_empty_file_changes_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert parse(Fit, ["--config", str(path)]) == Fit()


def test_a_printed_config_with_gaps_is_completed_by_flags(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse(Bare, ["--sparsity.kind=topk", "--sparsity.k=3", "--print_config"])
    path = tmp_path / "gaps.yaml"
    path.write_text(capsys.readouterr().out)
    config = parse(Bare, ["--config", str(path), "--out", "x"])
    assert config == Bare(Path("x"), TopKConfig(k=3))
