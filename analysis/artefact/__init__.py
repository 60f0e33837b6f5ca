"""What a trace folder holds: its files, the schema of each, and the one list of their names."""
