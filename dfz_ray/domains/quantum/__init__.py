"""The domain quantum: circuits are simulated, with noise or without, and compared with their exact answers."""
