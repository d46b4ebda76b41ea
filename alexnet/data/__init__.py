"""Images from their source to batches: readers, preparation, dataset, augmentation, loader."""
