"""The keys of a result of image_classification, for its readers."""

RESULTS = {
    "main_score": "1 is the best that can be reached: the test accuracy",
    "accuracy": "the share of the test images that were recognised",
    "precision": "mean over the classes, as are recall and f1",
    "recall": "mean over the classes of the share of their test images that were recognised",
    "f1": "mean over the classes of the harmonic mean of precision and recall",
    "per_class_accuracy": "by class, the share of its test images that were recognised; none where it has none",
    "per_class": "by class: precision, recall, f1, test_images",
    "confusion_matrix": "test images of each class (rows) that were taken for each class (columns)",
    "classes": "the classes, in the order of the matrix",
    "per_level": "for each level of groups of classes: the groups, and the accuracy within them",
    "training_curve": "for each epoch: loss and accuracy on the training images",
    "model_details": "the model as it was trained, the number and size of its images, and pixel_memory_limit_bytes",
    "device": "type, name and peak_memory_bytes of the device that it was trained on",
    "warnings": "texts: what makes the scores worth less, such as copies of training images among the test images",
    "details": "noise, shares, test_set, test_images_also_in_training, bad_images, data_sha256",
}
