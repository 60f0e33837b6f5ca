"""The files of a trace folder: which there are, what each must hold, and rows out of them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.artefact import summary as summaries
from analysis.artefact.checks import AGAIN, REQUIRED, check_nulls, check_table
from analysis.artefact.keys import read_json
from analysis.artefact.schema import Summary
from sae.errors import InputError

__all__ = ["TraceFolder", "read_parts"]


@dataclass(frozen=True)
class TraceFolder:
    """The parts of a trace; a part whose file is absent is None."""

    directory: Path
    """Where they were read."""
    summary: Summary
    """`summary.json`."""
    fates: pd.DataFrame | None
    """`fates.parquet`."""
    traces: pd.DataFrame | None
    """`traces.parquet`."""
    examples: pd.DataFrame | None
    """`examples.parquet`."""
    nulls: dict[str, Any] | None
    """`nulls.json`."""
    provenance: dict[str, Any] | None
    """`provenance.json`."""

    @cached_property
    def _places(self) -> dict[str, dict[tuple[str, int], list[int]]]:
        """Rows of every table by tuned model and latent."""
        out = {}
        for name in REQUIRED:
            places: dict[tuple[str, int], list[int]] = {}
            table = getattr(self, name)
            keys = [] if table is None else zip(table["tuned"], table["latent"], strict=True)
            for place, (tuned, latent) in enumerate(keys):
                places.setdefault((tuned, latent), []).append(place)
            out[name] = places
        return out

    def rows(self, name: str, latent: int, tuned: str) -> list[dict[Any, Any]]:
        """Rows of one table about one latent in one tuned model.

        Args:
            name: "fates", "traces" or "examples".
            latent: Index of the latent.
            tuned: The tuned model.

        Returns:
            The rows; none where the file is absent.
        """
        places = self._places[name].get((tuned, latent))
        return getattr(self, name).iloc[places].to_dict("records") if places else []

    def fate_of(self, latent: int, tuned: str) -> dict[Any, Any]:
        """The row of `fates.parquet` about a latent, empty where there is no such file.

        Args:
            latent: Index of the latent.
            tuned: The tuned model.

        Returns:
            The row.

        Raises:
            InputError: The trace holds no such tuned model or latent.
        """
        found = self.rows("fates", latent, tuned)
        if found:
            return found[0]
        if tuned not in self.summary.arms:
            known = ", ".join(self.summary.arms)
            raise InputError(f"tuned model {tuned!r}", f"the trace holds {known}", "name one")
        if not (self.rows("traces", latent, tuned) or self.rows("examples", latent, tuned)):
            do = "choose a latent of `trace.fates`"
            raise InputError(f"latent {latent} in {tuned}", "nothing about it in the trace", do)
        return {}

    def bands(self, latent: int, tuned: str) -> dict[str, tuple[float, float]]:
        """Where null latents of like fire rate lie, by coordinate.

        Args:
            latent: Index of the latent; its fire rate in the base model chooses the bin.
            tuned: The tuned model.

        Returns:
            Limits; empty where the trace holds no null for this model.
        """
        arms = (self.nulls or {}).get("arms", {})
        bins = (arms.get(tuned) or {}).get("power") or []
        cells = self.rows("traces", latent, tuned)
        n_tokens = sum(cell["n_tokens"] for cell in cells)
        rate = sum(cell["n_fires_base"] for cell in cells) / n_tokens if n_tokens else 0.0
        mine = [each for each in bins if each["fire_rate_from"] <= rate]
        if not mine:
            return {}
        last = max(mine, key=lambda each: each["fire_rate_from"])
        return {
            "direction": (_limit(last["direction"], -np.inf), np.inf),
            "gain": (_limit(last["gain_low"], -np.inf), _limit(last["gain_high"], np.inf)),
            "gating": (-np.inf, _limit(last["gating"], np.inf)),
            "profile": (-np.inf, _limit(last.get("profile"), np.inf)),
            "effect": (_limit(last.get("effect"), -np.inf), np.inf),
        }

    def candidate_for(self, latent: int) -> str | None:
        """The persona whose best latent this is, confirmed or not.

        Args:
            latent: Index of the latent.

        Returns:
            Its name, or None.
        """
        found = self.summary.personas.items()
        return next((name for name, each in found if each.latent == latent), None)


def _limit(value: float | None, unlimited: float) -> float:
    return unlimited if value is None else float(value)


def read_parts(directory: str | Path) -> dict[str, Any]:
    """The files of a trace folder, by the name of the field that holds each.

    Args:
        directory: The trace folder.

    Returns:
        Fields of `TraceFolder`.

    Raises:
        InputError: `summary.json` is missing, or a file is damaged, lacks a column or holds
            something else than it must.
    """
    folder, parts = Path(directory), dict[str, Any]()
    for name in REQUIRED:
        path = folder / f"{name}.parquet"
        parts[name] = check_table(name, path) if path.exists() else None
    for name in ("nulls", "provenance"):
        path = folder / f"{name}.json"
        parts[name] = read_json(path, AGAIN) if path.exists() else None
    if parts["nulls"] is not None:
        check_nulls(parts["nulls"], folder / "nulls.json")
    return {"directory": folder, "summary": summaries.read(folder), **parts}
