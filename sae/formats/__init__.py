"""Dictionaries on disk."""
