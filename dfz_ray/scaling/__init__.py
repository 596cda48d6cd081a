"""HOW it scales: what was measured with different numbers of workers, what it says, and what to do."""
