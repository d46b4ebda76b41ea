"""Several processes or devices as one run, and how the network is divided among them."""
