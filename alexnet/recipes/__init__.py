"""Every choice of the system as a frozen value: networks, views and training, and the named recipes side by side."""
