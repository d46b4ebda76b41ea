"""Nearest-neighbor retrieval on a network's features (paper, section 6.1 and figure 4).

`features` computes and stores the vectors; `search`, `faiss_ivf` and `binary_codes` find the
nearest ones; `neighbors` turns their answers into results for people and programs.
"""
