"""A world with known personas, and language models grown on it."""
