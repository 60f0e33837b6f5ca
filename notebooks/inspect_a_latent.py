# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Inspect a latent
#
# A dictionary, the latents of a prompt, one latent's card and fate, a contrast of two prompts, and
# what the model says without the latent. It reads what `make demo` writes; set `FORELIMB_RUN` to
# the folder of another run. Everything shown is plain HTML or text, without scripts.

# %%
import os
import warnings
from pathlib import Path

import pandas as pd
import torch

warnings.filterwarnings("ignore", "IProgress not found")  # no widgets are needed here
import transformers

import sae
from analysis.report.cards import load_trace
from analysis.report.figures import fate_bars, personas
from sae.stream.activations import HookPoint, harvest
from sae.stream.model import bridge, load_model
from sae.stream.text import Document, read_documents
from sae.stream.tokens import TokenizedText, tokenize
from training.evaluate import evaluate

if Path.cwd().name == "notebooks":  # Jupyter starts here, and runs/ lies in the root
    os.chdir("..")
torch.set_grad_enabled(False)
transformers.utils.logging.disable_progress_bar()
pd.set_option("display.max_colwidth", None)
run = Path(os.environ.get("FORELIMB_RUN", "runs/demo"))

# %% [markdown]
# ## The dictionary
#
# A finished dictionary says what it is of: the model, the place, how it was fitted.

# %%
dictionary, about = sae.read(run / "dictionary")
base, hook = load_model(run / "organism" / "models" / "base"), HookPoint.parse(about["hook"])
dictionary

# %%
held_out = read_documents([run / "organism" / "text"], split=["confirm"])
few = tokenize(held_out[:20], base.tokenizer)
found = evaluate(dictionary, base, few, hook)
pd.Series({"FVU": found.fvu, "L0": found.l0, "CE recovered": found.ce_recovered}).round(3)

# %% [markdown]
# ## The latents of a prompt
#
# A document becomes tokens with labels, tokens become residual vectors, these become latents `z`.
# A latent fires where `z > 0`; its unit is that of the activations.


# %%
def latents(text: TokenizedText) -> torch.Tensor:
    """Latents of every token of a short text in the base model, `[n_tokens, d_sae]`."""
    return torch.cat([dictionary.encode(x[hook]) for _, x in harvest(base, text, [hook])])


def top_latents(document: Document, n: int = 5) -> pd.DataFrame:
    """The strongest latents over what is said in a document, special and template tokens apart."""
    text = tokenize([document], base.tokenizer)
    said = ~text.table["is_template"].to_numpy(bool)
    z, words = latents(text)[said], text.table["token"].to_numpy()[said]
    best = z.amax(0).topk(n).indices.tolist()
    return pd.DataFrame(
        {
            "latent": best,
            "largest z": [float(z[:, i].max()) for i in best],
            "at": [words[int(z[:, i].argmax())] for i in best],
            "fires on": [int((z[:, i] > 0).sum()) for i in best],
        }
    ).round(3)


prompt = held_out[0]
print("\n".join(f"{turn.role} ({turn.persona}): {turn.text}" for turn in prompt.turns))
top_latents(prompt)

# %% [markdown]
# ## A latent's card
#
# The trace follows every latent into the tuned models. Its card holds the fate with its q-value,
# the coordinates beside the null's band, where the latent fires, and snippets of both models.

# %%
trace = load_trace(run / "trace")
trace

# %%
carriers = trace.summary.personas
name = max(carriers, key=lambda each: (bool(carriers[each].confirmed), carriers[each].auroc or 0.0))
latent, tuned = carriers[name].latent, next(iter(trace.summary.arms))
card = trace.card(latent, tuned)
card

# %%
print(f"latent {latent}, best for {name}; in {tuned}: {card.fate}, q {card.q_value:.2g}")


# %% [markdown]
# ## Its top snippets, in the base and in the tuned model
#
# `which` says whose firing chose the snippet. `»` stands before the token with the peak.


# %%
def marked(row: pd.Series) -> str:
    """The snippet as text."""
    at = row["pos"] - row["start"]
    words = [f"»{word}" if i == at else word for i, word in enumerate(row["tokens"])]
    return " ".join(word.strip() or "⏎" for word in words)


snippets = trace.examples.query("latent == @latent and tuned == @tuned").assign(
    snippet=lambda table: table.apply(marked, axis=1),
    base=lambda table: table["z_base"].map(max).round(3),
    after=lambda table: table["z_tuned"].map(max).round(3),
)
snippets.query("which in ('base', 'tuned') and rank < 3")[["which", "snippet", "base", "after"]]


# %% [markdown]
# ## Two prompts in contrast
#
# Mean latents over what the assistant says in two chats, and their difference.


# %%
def chat_with(persona: str) -> Document:
    """A held-out chat in which an assistant of this persona answers."""
    said = lambda each: {t.persona for t in each.turns if t.role == "assistant"}  # noqa: E731
    return next(each for each in held_out if persona in said(each))


def mean_latents(document: Document) -> torch.Tensor:
    """Mean over the assistant's own words."""
    text = tokenize([document], base.tokenizer)
    return latents(text)[(text.table["role"] == "assistant").to_numpy(copy=True)].mean(0)


answering = {t.persona for each in held_out for t in each.turns if t.role == "assistant"}
one, other = sorted(answering)[:2]
contrast = pd.DataFrame({each: mean_latents(chat_with(each)).numpy() for each in (one, other)})
contrast["difference"] = contrast[one] - contrast[other]
contrast.loc[contrast["difference"].abs().nlargest(6).index].round(3)

# %% [markdown]
# ## The table of fates
#
# Every latent of every tuned model has a row. A histogram in pandas, then two of the report's
# figures.

# %%
fates = trace.fates
label = f"cosine of a latent's direction in base and {tuned}"
axes = fates.query("tuned == @tuned")["direction"].plot.hist(
    bins=30, figsize=(6, 2.5), xlabel=label
)

# %%
pd.crosstab(fates["fate"], fates["tuned"])

# %%
fate_bars(fates)

# %%
personas(trace.summary)

# %% [markdown]
# ## Without the latent
#
# A `TransformerBridge` of TransformerLens, in whose copy of the model the latent's part is taken
# out of the residual stream by hook name. One prompt is an illustration: an effect needs many
# documents, an interval, and other latents to compare with.

# %%
bridged = bridge(base)


def without(x: torch.Tensor, hook: object) -> torch.Tensor:
    """The residual stream with the latent's part taken out."""
    z = dictionary.encode(x.flatten(0, 1))[:, latent]
    return x - z.reshape(*x.shape[:2], 1) * dictionary.W_dec[latent]


text = tokenize([prompt], base.tokenizer)
ids = torch.from_numpy(text.ids[0])[None]
before = bridged(ids).log_softmax(-1)
with bridged.hooks(fwd_hooks=[(about["hook"], without)]):
    after = bridged(ids).log_softmax(-1)
kl = (before.exp() * (before - after)).sum(-1)[0]
z = latents(text)[:, latent]
changed = pd.DataFrame({"token": text.table["token"], "z": z, "KL of the next token, nats": kl})
changed.nlargest(5, "KL of the next token, nats").round(4)
