"""C++ kernels: one pass over memory where torch and NumPy take several; each has a plain form."""
