"""Where personas lie on average, in documents in which no assistant speaks."""

import pandas as pd

from analysis.latents.bench import Bench
from analysis.personas.select import comparable_tokens
from analysis.personas.span import within_tokens
from sae.change import in_chats

__all__ = ["persona_means"]


def persona_means(bench: Bench) -> pd.DataFrame:
    """Mean base residual of every persona, within token, over the select split.

    Chats are left out: a persona that assistants have there would lie where chats lie.

    Args:
        bench: Tokens and base residuals.

    Returns:
        One row a persona, one column a dimension; unit: activation.
    """
    kept = comparable_tokens(bench.tokens) & bench.in_split("select") & ~in_chats(bench.tokens)
    x = within_tokens(bench.x[kept].astype(float), bench.tokens["token_id"].to_numpy()[kept])
    who = bench.tokens["persona"].to_numpy(object)[kept]
    return pd.DataFrame({name: x[who == name].mean(axis=0) for name in sorted(set(who))}).T
