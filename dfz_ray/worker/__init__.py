"""What runs in a Ray worker: a lease, its deadlines and its crash marker."""
