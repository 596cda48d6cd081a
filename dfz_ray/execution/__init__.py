"""HOW one chunk is executed, in any process: no Ray, no journal."""
