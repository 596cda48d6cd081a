"""A Ray worker: a lease, its deadlines, the state of its process, and its crash marker."""
