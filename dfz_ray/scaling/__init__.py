"""HOW it scales: measures a batch with different numbers of workers, and recommends one."""
