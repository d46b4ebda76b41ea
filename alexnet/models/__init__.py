"""The network: its geometry, its layers, its arithmetic."""
