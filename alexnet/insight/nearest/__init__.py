"""Nearest pictures: rows of features, the ways to search them, and the answers as a table and a picture."""
