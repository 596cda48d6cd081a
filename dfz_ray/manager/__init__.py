"""What runs in the manager actor: one object for each run at work."""
