"""activations on disk: safetensors shards, a table of tokens, and a manifest."""

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from sae.errors import ConfigError, InputError
from sae.stream.activations import HookPoint, harvest, outliers
from sae.stream.manifest import SCHEMA, read_manifest, read_member, require_said
from sae.stream.model import LanguageModel
from sae.stream.tokens import TokenizedText

__all__ = ["ActivationCache", "save_cache", "write_cache"]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of vectors that are taken; all are kept as float32."""


@dataclass(frozen=True, eq=False)
class ActivationCache:
    """The residual vectors of a text at one hook of one model, in a folder.

    Every shard is checked against its hash each time it is read, so that damage is found before
    anything is computed from it.
    """

    path: Path
    """The folder."""
    manifest: Mapping[str, Any]
    """Content of ``manifest.json``: model, hook, width, token count, hashes, shards."""
    tokens: pd.DataFrame
    """Labels of every token, in the order of the rows of the shards."""

    @classmethod
    def open(cls, path: str | Path) -> "ActivationCache":
        """The cache in a folder; shards are read when they are asked for.

        Raises:
            InputError: There is no cache, it is of another schema, its manifest lacks a field or
                holds one of another type, or names a file outside the folder, or its table of
                tokens is damaged; the message names the file.
        """
        path = Path(path)
        manifest = read_manifest(path / "manifest.json")
        data = read_member(path, "tokens.parquet", manifest["table_sha256"])
        cache = cls(path, manifest, pd.read_parquet(io.BytesIO(data)))
        if not len(cache.tokens) == cache.n_tokens == sum(s["n"] for s in manifest["shards"]):
            raise InputError(f"cache {path}", "counts of tokens that differ", "harvest it again")
        return cache

    @property
    def n_tokens(self) -> int:
        """Tokens of all shards, special ones and outliers among them."""
        return self.manifest["n_tokens"]

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        return self.manifest["d_in"]

    @property
    def hook(self) -> HookPoint:
        """Where in the model the vectors were taken."""
        return HookPoint.parse(self.manifest["hook"])

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(self.manifest["shards"])

    def rows(self, number: int) -> slice:
        """Rows of ``tokens`` that a shard holds."""
        sizes = [shard["n"] for shard in self.manifest["shards"]]
        first = sum(sizes[:number])
        return slice(first, first + sizes[number])

    def shard(self, number: int) -> Float[Tensor, "n d_in"]:
        """Residual vectors of one shard, unscaled float32.

        Raises:
            InputError: The file is missing, differs from the one written, or is a link to outside
                the folder; the message names it.
        """
        entry = self.manifest["shards"][number]
        path = self.path / entry["file"]
        try:
            data = read_member(self.path, entry["file"], entry["sha256"])
            x = safetensors.torch.load(data)["x"]
        except (SafetensorError, KeyError) as error:
            raise InputError(f"shard {path}", f"no vectors ({error})", "harvest again") from error
        if x.shape != (entry["n"], self.d_in):
            found = f"{tuple(x.shape)} for {(entry['n'], self.d_in)}"
            raise InputError(
                f"shard {path}",
                found,
                "delete provenance.json beside it and harvest the cache again",
            )
        return x.float()


def write_cache(
    path: str | Path,
    model: LanguageModel,
    text: TokenizedText,
    hook: HookPoint,
    shard_tokens: int = 65536,
) -> ActivationCache:
    """Harvest a text into a folder; the folder appears whole, or not at all.

    All tokens are kept, special ones as well. Those whose norm is above ten times the median of
    all the tokens are marked ``is_outlier``.

    Args:
        path: Folder to write; a cache that is there is replaced.
        model: The model.
        text: The text.
        hook: Where to take the residual vectors.
        shard_tokens: Tokens a shard, save for the last.

    Raises:
        ConfigError: The folder holds something other than a cache, or there is no such hook.
        InputError: The activations are not finite, or the text has no token.
    """
    said = {
        "model": model.name,
        "revision": model.revision,
        "weights_sha256": model.weights_sha256,
        "tokenizer_sha256": model.tokenizer_hash,
        "hook": str(hook),
        "tokens_sha256": text.sha256,
    }
    tokens = text.table.drop(columns="is_outlier")
    return save_cache(path, _shards(model, text, hook, shard_tokens), tokens, said)


def save_cache(
    path: str | Path,
    shards: Iterable[Float[Tensor, "_ d_in"]],
    tokens: pd.DataFrame,
    said: Mapping[str, Any],
) -> ActivationCache:
    """Vectors from anywhere as a cache; the folder appears whole, or not at all.

    Args:
        path: Folder to write; a cache that is there is replaced.
        shards: Vectors in the order of the tokens, a shard each, drawn one by one; float16,
            bfloat16 and float64 ones are kept as float32.
        tokens: A row a token, one at least: doc, pos, token_id, token, role, persona, context,
            split, and what else there is. `is_special` is false and `is_outlier` told by the norms
            where they are absent.
        said: For the manifest: model and hook at least, strings that are not empty, and
            `tokens_sha256`, by which caches of the same tokens know each other; that of the table
            where it is absent.

    Raises:
        ConfigError: The folder holds something other than a cache.
        InputError: What is said lacks model or hook, there is no token, a shard is no floating
            tensor [n, d_in], there are not as many vectors as tokens, they are of several widths,
            or some are not finite as float32. A cache that was there stays as it was.

    Example:
        >>> import tempfile
        >>> names = ("doc", "token", "role", "persona", "context", "split")
        >>> table = pd.DataFrame({name: ["a", "a"] for name in names} | {"pos": [0, 1]})
        >>> said = {"model": "mine", "hook": "blocks.0.hook_resid_post"}
        >>> path = Path(tempfile.mkdtemp()) / "cache"
        >>> save_cache(path, [torch.ones(2, 3)], table.assign(token_id=0), said).d_in
        3
    """
    path = Path(path)
    require_said(f"a cache in {path}", said)
    if not len(tokens):
        raise InputError(f"a cache in {path}", "a table of no tokens", "give one token or more")
    empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not empty and not (path / "manifest.json").exists():
        do = "choose a new folder or empty this one"
        raise ConfigError(f"a cache in {path}", "files that are not a cache", do)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        checked = (_vectors(f"shard {i} for {path}", x) for i, x in enumerate(shards))
        _fill(draft, checked, tokens, said)
        if path.exists():
            shutil.rmtree(path)
        draft.chmod(0o755)  # made for its owner alone
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return ActivationCache.open(path)


def _fill(
    draft: Path,
    vectors: Iterable[Float[Tensor, "_ d_in"]],
    tokens: pd.DataFrame,
    said: Mapping[str, Any],
) -> None:
    shards: list[dict[str, Any]] = []
    norms: list[Tensor] = []
    widths: set[int] = set()
    for x in vectors:
        name = f"shard-{len(shards):05d}.safetensors"
        data = safetensors.torch.save({"x": x.float().contiguous()})
        (draft / name).write_bytes(data)
        shards.append({"file": name, "n": len(x), "sha256": hashlib.sha256(data).hexdigest()})
        norms.append(x.norm(dim=1, keepdim=True))
        widths.add(x.shape[1])
    n = sum(shard["n"] for shard in shards)
    if n != len(tokens) or len(widths) != 1:
        found = f"{n} vectors of widths {sorted(widths)} for {len(tokens)} tokens"
        raise InputError("one vector for every token", found, "give them in one order")
    marks = {"is_special": False, "is_outlier": outliers(torch.cat(norms)).numpy()}
    missing = {name: each for name, each in marks.items() if name not in tokens}
    tokens.assign(**missing).to_parquet(draft / "tokens.parquet", index=False)
    table_sha256 = hashlib.sha256((draft / "tokens.parquet").read_bytes()).hexdigest()
    manifest = {"schema": SCHEMA, "tokens_sha256": table_sha256, **said} | {
        "schema": SCHEMA,  # whatever else was said
        "d_in": widths.pop(),
        "dtype": "float32",
        "n_tokens": n,
        "table_sha256": table_sha256,
        "shards": shards,
    }
    (draft / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _vectors(asked: str, x: Any) -> Float[Tensor, "n d_in"]:
    """A shard, if it is one, on the CPU and free of what it was computed from."""
    is_dense = isinstance(x, Tensor) and x.layout == torch.strided
    if not (is_dense and x.dtype in FLOATS and x.ndim == 2 and x.shape[1]):
        do = "give floating vectors [n, d_in] as tensors, and wrap a lone tensor in a list"
        raise InputError(asked, _described(x), do)
    if not x.float().isfinite().all():
        raise InputError(asked, "NaN or infinite vectors as float32", "check the model")
    return x.detach().cpu()


def _described(x: Any) -> str:
    if isinstance(x, Tensor):
        sparse = "" if x.layout == torch.strided else "sparse "
        return f"a {sparse}{x.dtype} tensor of shape {tuple(x.shape)}"
    kind = type(x).__qualname__
    return f"a numpy.{kind} of shape {x.shape}" if isinstance(x, np.ndarray) else f"a {kind}"


def _shards(
    model: LanguageModel, text: TokenizedText, hook: HookPoint, shard_tokens: int
) -> Iterator[Float[Tensor, "n d_in"]]:
    """Vectors in blocks of ``shard_tokens``, cut where they fall, also within a document."""
    waiting: list[Tensor] = []
    for _, found in harvest(model, text, [hook]):
        waiting.append(found[hook].cpu())
        if sum(map(len, waiting)) >= shard_tokens:
            *full, rest = torch.cat(waiting).split(shard_tokens)
            yield from full
            waiting = [rest.clone()]  # at most a shard, never nothing
    yield torch.cat(waiting)
