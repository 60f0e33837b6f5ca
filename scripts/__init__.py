"""Doors: each runs as python -m scripts.NAME from the root. Underscored files are shared."""

import os

# Read by torch's OpenMP when it loads. By default a thread that waits for another spins for
# milliseconds; where anything else wants the core, a step then takes tens of times as long.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
