"""The composition root: builds every part of a POP, starts them in order, stops them in reverse."""

from edgecache.daemon.pop import Daemon
from edgecache.daemon.summary import Summary

__all__ = ["Daemon", "Summary"]
