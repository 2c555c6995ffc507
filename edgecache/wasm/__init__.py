"""WebAssembly with wasmtime: a fresh sandbox for every call, nothing of the host linked but one import.

Knows bytes and limits; which function runs when, for whom, and what it may do is `functions`' part.
"""
