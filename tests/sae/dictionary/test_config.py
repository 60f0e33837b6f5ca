import json

import pytest

from sae.dictionary.config import (
    BatchTopKConfig,
    ReluConfig,
    SaeConfig,
    TopKConfig,
    config_to_dict,
    sae_config_from_dict,
    sparsity_from_dict,
)
from sae.errors import ConfigError


def test_json_and_back():
    config = SaeConfig(64, 512, BatchTopKConfig(k=8), prefixes=(64, 128))
    assert sae_config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


def test_a_whole_number_is_a_weight_too():
    config = sparsity_from_dict({"kind": "relu", "l1": 1})
    assert config == ReluConfig(l1=1.0)
    assert isinstance(config.l1, float)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"k": 3}, "no kind; do: add kind: one of relu, topk, batch_topk"),
        ({"kind": "batchtopk", "k": 3}, "did you mean 'batch_topk'?"),
        ({"kind": ["topk"], "k": 3}, "an unknown kind"),
        ({"kind": "qqq"}, "choose among relu, topk, batch_topk"),
        ({"kind": "batch_topk", "k": 3, "treshold": 1}, "did you mean 'threshold_beta'?"),
        ({"kind": "topk"}, "no value; do: give k"),
        ({"kind": "topk", "l1": 0.1}, "l1; found: an unknown key"),
        ({"kind": "topk", "k": 0}, "give an integer of at least 1"),
        ({"kind": "topk", "k": True}, "a bool"),
        ({"kind": "topk", "k": "3"}, "k='3'; found: a str"),
        ({"kind": "relu", "l1": -1.0}, "give a finite number of at least 0"),
        ({"kind": "relu", "l1": float("nan")}, "out of range"),
        ({"kind": "batch_topk", "k": 3, "threshold_beta": 1.0}, "and below 1"),
        ("topk", "a str; do: give a mapping with a kind"),
    ],
)
def test_a_wrong_sparsity_is_told_what_to_do(raw, message):
    with pytest.raises(ConfigError) as caught:
        sparsity_from_dict(raw)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_in": 0}, "d_in=0"),
        ({"d_sae": 2.0}, "d_sae=2.0; found: a float"),
        ({"d_model": 4}, "d_model; found: an unknown key"),
        ({"sparsity": {"kind": "topk", "k": 17}}, "at least 1 and at most 16"),
        ({"sparsity": 3}, "give a mapping with a kind"),
        ({"prefixes": 4}, "give a list"),
        ({"prefixes": [4, 4]}, "at least 5 and at most 15"),
        ({"prefixes": [16]}, "at most 15"),
        ({"prefixes": ["4"]}, "a str"),
    ],
)
def test_a_wrong_dictionary_is_told_what_to_do(changes, message):
    raw = {"d_in": 4, "d_sae": 16, "sparsity": {"kind": "topk", "k": 2}} | changes
    with pytest.raises(ConfigError) as caught:
        sae_config_from_dict(raw)
    assert message in str(caught.value)


def test_a_missing_width_is_named():
    with pytest.raises(ConfigError, match="d_sae; found: no value"):
        sae_config_from_dict({"d_in": 4, "sparsity": {"kind": "relu", "l1": 0.1}})


def test_configs_cannot_change():
    with pytest.raises(AttributeError):
        TopKConfig(k=3).k = 4  # pyright: ignore[reportAttributeAccessIssue]
