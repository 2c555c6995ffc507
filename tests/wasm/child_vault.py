"""Writes uploads into a vault until it is killed; says when it begins. Run by test_vault."""

import os
import sys
from pathlib import Path

from edgecache.wasm.vault import Vault

vault = Vault(Path(sys.argv[1]), b"k" * 32)
sys.stdout.write("begun\n")
sys.stdout.flush()
while True:
    vault.put(os.urandom(200_000))
