"""The `edgecache` command: one module a group. Nothing heavy is imported before the command that needs it runs."""
