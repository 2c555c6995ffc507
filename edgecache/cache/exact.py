"""The exact tier: the answer to an identical request, found without embedding anything."""

from edgecache.store.entries import EntryStore
from edgecache.types import CacheKey, Entry


class ExactTier:
    """Entries by the digest of their key."""

    def __init__(self, store: EntryStore) -> None:
        self._store = store

    def lookup(self, key: CacheKey) -> Entry | None:
        """The entry stored under `key`, stale ones too: `policy.usable` decides. Raises StoreError.

        The tenant is part of the digest; it is compared all the same, so that no collision or damage crosses tenants.
        """
        entry = self._store.find(key.digest)
        if entry is None or entry.tenant != key.tenant or entry.scope != key.scope:
            return None
        return entry
