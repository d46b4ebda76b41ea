"""Import weights that other programs wrote, as model files."""
