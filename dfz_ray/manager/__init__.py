"""The manager actor, with one object for each run at work."""
