"""unmul: the complete open stack for MatMul-free language models."""
