"""The paper's comparisons: what is changed (`arms`), how the runs are made (`conduct`), what is read from them."""
