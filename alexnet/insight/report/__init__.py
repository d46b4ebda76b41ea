"""Reports: one page about a run, or about several side by side, whole in itself."""
