"""Starts a process of its own, which says so, and waits. Run by test_child."""

import os
import signal


def main(arguments: list[str]) -> None:
    if os.fork() == 0:
        os.write(int(arguments[0]), b"started\n")
    signal.pause()
