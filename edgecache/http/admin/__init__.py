"""The admin API, one module a noun. Its own listener; nothing here is reachable from the public one."""
