"""A daemon with one worker: says which process that is, and waits to be killed. Run by test_remote."""

import os
import signal
import sys

import msgspec

from edgecache.clock import SystemClock
from edgecache.config.tree import Functions
from edgecache.wasm.remote import Workers
from edgecache.wasm.vault import Artefact

workers = Workers(Functions(threads=1), SystemClock())
artefact = msgspec.json.decode(sys.argv[1], type=Artefact, dec_hook=lambda kind, plain: kind(plain))
workers.load(artefact, "acme")
os.write(1, f"{workers.processes['acme']}\n".encode())
signal.pause()
