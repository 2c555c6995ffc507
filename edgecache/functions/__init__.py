"""Functions that developers upload: manifests and versions, when they run, what they may do, what becomes of it."""
