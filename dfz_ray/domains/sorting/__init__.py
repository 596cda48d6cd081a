"""Lists, sorted and counted."""
