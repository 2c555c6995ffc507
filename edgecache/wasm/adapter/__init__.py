"""The adapter component: WASI and Spin's interfaces inside the sandbox, in C, and what builds it.

Only the two built artefacts are used at run time, by `wasm.compose`.
"""
