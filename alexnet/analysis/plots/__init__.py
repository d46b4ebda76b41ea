"""Figures, one file each: a function that computes the values, and one that plots them.

`style` holds the shared style and small helpers, `figure_io` turns a figure into a PNG or SVG file.
"""
