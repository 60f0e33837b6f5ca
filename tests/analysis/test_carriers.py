"""Persona latents are looked for where the base model is at home."""

import numpy as np
import pandas as pd

from analysis.carriers import _home


def table(*documents: tuple[str, tuple[str, ...], str]) -> pd.DataFrame:
    """Documents as (split, roles of their tokens, persona of all tokens)."""
    rows = [
        {"doc": doc, "role": role, "split": split, "persona": persona}
        for doc, (split, roles, persona) in enumerate(documents)
        for role in roles
    ]
    return pd.DataFrame(rows)


def test_no_token_of_a_document_in_which_an_assistant_speaks():
    tokens = table(
        ("select", ("character", "narrator"), "sage"),
        ("select", ("user", "assistant"), "sage"),
        ("confirm", ("character",), "sage"),
        ("confirm", ("assistant", "user"), "sage"),
    )
    np.testing.assert_array_equal(_home(tokens), [1, 1, 0, 0, 1, 0, 0])


def test_all_documents_where_a_split_has_labels_in_chats_only():
    tokens = table(
        ("select", ("character",), "sage"),
        ("select", ("assistant",), "sage"),
        ("confirm", ("character",), "none"),
        ("confirm", ("assistant",), "sage"),
    )
    assert _home(tokens).all()
