"""Mazes, generated or read, and paths through them."""
