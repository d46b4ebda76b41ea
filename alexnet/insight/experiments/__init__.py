"""The paper's comparisons: what is changed (`arms`), the runs (`runs`), what is read from them (`conduct`, `outcomes`)."""
