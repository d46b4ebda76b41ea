"""Response norms as operations that torch knows, in C++ and in Triton."""
