"""DFZExecutor: concurrent.futures on Ray."""
