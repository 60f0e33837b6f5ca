"""What a sparse dictionary is, and what feeds it."""

__version__ = "0.1.0"
