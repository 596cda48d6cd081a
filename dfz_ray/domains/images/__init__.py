"""Image classifiers, trained and tested."""
