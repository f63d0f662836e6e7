"""The local engine fitted to this CPU: kernels built here, weights in another format, threads.

The wheel of llama.cpp has kernels for AVX2. ggml, the library below it, can take its CPU kernels
from another shared library; `build` compiles one for this CPU from the same version's sources,
`weights` converts a model's file, `search` measures what of it is faster, and `choice` tells the
engine what to use. Everything new is first run in a child process (`child`).
"""
