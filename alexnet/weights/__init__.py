"""Weights people already have, read from the formats others wrote them in and handed on as model files."""
