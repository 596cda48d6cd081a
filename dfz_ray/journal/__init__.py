"""WHAT happened: one SQLite file in the run folder."""
