"""How fast: ours beside the usual ways in the same run, and how far both are from what the machine could do."""
