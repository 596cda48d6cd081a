"""WHAT the work is: pure functions of parameters, seed and thread budget."""
