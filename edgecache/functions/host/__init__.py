"""What functions may call out of their sandboxes: one module a group of host operations."""
