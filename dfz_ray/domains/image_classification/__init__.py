"""The domain image_classification: a classifier is trained, and measured on images that it has not seen."""
