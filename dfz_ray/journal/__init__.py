"""The record of a run: one SQLite file in the run folder, its only writer, its readers, and its audit."""
