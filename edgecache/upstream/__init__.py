"""Talking to the clusters that answer misses: what each understands, and one streaming client for all of them."""
