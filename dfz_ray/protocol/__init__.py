"""WHAT processes say to each other: driver, manager and worker."""
