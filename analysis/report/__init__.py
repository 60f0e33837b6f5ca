"""One self-contained page from a trace folder."""
