"""WHAT is asked: batches, tasks and settings, as frozen data, and the checks of input."""
