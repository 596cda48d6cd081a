"""The things that tests share: builders, witnesses, faults that are real, and programs that tests start."""
