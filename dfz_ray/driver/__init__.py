"""The driver, in the user's process: a session for each run, and its connection to the manager."""
