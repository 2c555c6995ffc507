"""Start NVIDIA's Dynamo frontend with its TensorRT-LLM mocker, without a GPU, etcd or NATS, until told to stop.

    .venv-dynamo/bin/python tests/e2e/dynamo/start.py [--port 18100] [--speedup-ratio 1]

Start it several times for several clusters: each has a folder of its own to find its worker in, and knows of no other.
Prints one JSON line once `/v1/models` lists the model: url, model, pids of frontend and mocker, folder with their logs.
Stops both on SIGTERM, on SIGINT, when one of them ends, or when the process that started it is gone. The interpreter is
that of `requirements/dynamo.txt`. Only loopback is advertised, but the mocker's ZeroMQ publishers bind every interface
and have no option for it: run it where that does not matter.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import model

PLANES = ("--discovery-backend", "file", "--request-plane", "tcp", "--event-plane", "zmq")
LOOPBACK = "127.0.0.1"


def main() -> int:
    """Parse the options, run until stopped. Returns 0 when stopped on purpose, 1 when Dynamo failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="HTTP port of the frontend; 0 = any free one")
    parser.add_argument("--model", default="edge-test", help="served model name")
    parser.add_argument("--speedup-ratio", type=float, default=1.0, help="of the modelled GPU; 0 = no delays at all")
    parser.add_argument("--decode-speedup-ratio", type=float, default=1.0, help="further, for all but the first token")
    parser.add_argument("--mean-length", type=int, default=32, help="mean tokens of an answer that ends by itself")
    parser.add_argument("--router-mode", default="kv", help="of the frontend")
    parser.add_argument("--startup-timeout", type=float, default=60.0, help="s until the model must be listed")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="edgecache-dynamo-") as folder:
        return run(options, Path(folder), stop)


def run(options: argparse.Namespace, folder: Path, stop: threading.Event) -> int:
    """Build the model folder, start both processes, announce them, wait, end them."""
    model.build(folder / "model", mean_length=options.mean_length)
    port = options.port or free_port()
    children = launch(options, folder, port)
    parent = os.getppid()
    url = f"http://{LOOPBACK}:{port}"
    try:
        deadline = time.perf_counter() + options.startup_timeout
        while not lists_model(url, options.model):
            if stop.wait(0.1):
                return 0
            if time.perf_counter() > deadline or ended(children):
                sys.stderr.write(f"Dynamo did not come up:\n{tail(folder)}\n")
                return 1
        names = {f"{name}_pid": child.pid for name, child in children.items()}
        sys.stdout.write(json.dumps({"url": url, "model": options.model, **names, "logs": str(folder)}) + "\n")
        sys.stdout.flush()
        while not stop.wait(0.5) and os.getppid() == parent:
            if ended(children, "frontend"):  # a test may kill the mocker to see what the frontend does then
                sys.stderr.write(f"the frontend ended:\n{tail(folder)}\n")
                return 1
        return 0
    finally:
        end(children)


def launch(options: argparse.Namespace, folder: Path, port: int) -> dict[str, subprocess.Popen[bytes]]:
    """Start frontend and mocker, which find each other through files in `folder`."""
    (folder / "discovery").mkdir()
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),  # model cards are cached below it
        "HF_HUB_OFFLINE": "1",
        "DYN_FILE_KV": str(folder / "discovery"),
        "DYN_TCP_RPC_HOST": LOOPBACK,
        "DYN_TCP_RESPONSE_STREAM_HOST": LOOPBACK,
        "DYN_EVENT_PLANE_HOST": LOOPBACK,
        "DYN_SYSTEM_HOST": LOOPBACK,
        "DYN_SDK_DISABLE_ANSI_LOGGING": "1",
        "DYN_LOG": "warn",
    }
    mocker = ["--model-path", str(folder / "model"), "--model-name", options.model, "--engine-type", "trtllm"]
    mocker += ["--speedup-ratio", str(options.speedup_ratio)]
    mocker += ["--decode-speedup-ratio", str(options.decode_speedup_ratio)]
    frontend = ["--http-host", LOOPBACK, "--http-port", str(port), "--router-mode", options.router_mode]
    children = {}
    for name, arguments in (("frontend", frontend), ("mocker", mocker)):
        with (folder / f"{name}.log").open("wb") as log:
            children[name] = subprocess.Popen(
                [sys.executable, "-m", f"dynamo.{name}", *arguments, *PLANES],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
    return children


def free_port() -> int:
    """A TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def lists_model(url: str, name: str) -> bool:
    """Whether the model is served: `/health` says healthy with no worker at all, so it cannot be asked."""
    try:
        with urllib.request.urlopen(url + "/v1/models", timeout=2) as response:  # noqa: S310 - our own http URL
            return name in {each["id"] for each in json.load(response)["data"]}
    except (urllib.error.URLError, OSError, ValueError):
        return False


def ended(children: dict[str, subprocess.Popen[bytes]], *names: str) -> bool:
    """Whether one of the named children (all when none is named) has ended."""
    return any(children[name].poll() is not None for name in names or children)


def end(children: dict[str, subprocess.Popen[bytes]]) -> None:
    """Ask all to end, insist after five seconds."""
    for child in children.values():
        child.terminate()
    for child in children.values():
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def tail(folder: Path, lines: int = 15) -> str:
    """The last lines of both logs."""
    parts = []
    for log in sorted(folder.glob("*.log")):
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
        parts += [f"--- {log.name}", *text[-lines:]]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
