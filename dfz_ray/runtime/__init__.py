"""WHERE it runs: the only floor that imports ray."""
