"""WHAT is asked: frozen data, and its checking."""
