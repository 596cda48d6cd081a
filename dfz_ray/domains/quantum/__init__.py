"""Circuits, simulated with noise or without."""
