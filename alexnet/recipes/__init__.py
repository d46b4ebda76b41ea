"""Every choice as a frozen value: networks, augmentation, training, and the recipes."""
