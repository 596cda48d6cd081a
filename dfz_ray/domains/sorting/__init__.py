"""The domain sorting: a list is made and sorted, and the comparisons are counted."""
