"""Which upstream gets a miss, and what is tried when it cannot be reached."""
