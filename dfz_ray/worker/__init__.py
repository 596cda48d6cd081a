"""A Ray worker: a lease, its deadlines and its crash marker."""
