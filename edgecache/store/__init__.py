"""What the POP remembers: entries and purges in LMDB (the truth) and vectors in FAISS (derived from it)."""
