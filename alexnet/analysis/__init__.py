"""Analysis of trained models and runs: figures, reports, retrieval, and the paper's experiments.

Model files, datasets and the files of a run are only read here.
"""
