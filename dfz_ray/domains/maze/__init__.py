"""The domain maze: a maze is made or read, and a path through it is searched and proved."""
