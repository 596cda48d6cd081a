"""WHAT processes say to each other: the messages of driver, manager and worker, and their order."""
