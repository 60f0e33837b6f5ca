"""One self-contained page from a trace folder."""

from analysis.report.page import build, write

__all__ = ["build", "write"]
