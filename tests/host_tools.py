"""Two hosts in a test: network namespaces of this machine, joined by a cable, with one disk.

What a process of one sees of the network is its own; the file system is shared, as on a cluster.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study_tools import REPOSITORY

PORT = 29500  # free in a namespace of its own
# what torchrun gives a process that was told to stop; a test need not wait for more
_STOP_SEC = 60


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Attributes:
        name: of the namespace.
        interface: its end of the cable.
        address: of that end.
    """

    name: str
    interface: str
    address: str


def find_missing() -> str | None:
    """Say what this machine lacks for `join_hosts`, if anything."""
    if shutil.which("ip") is None:
        return "network namespaces need the command ip (iproute2)"
    try:
        with join_hosts():
            return None
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.decode().strip()}"


@contextmanager
def join_hosts() -> Iterator[tuple[Host, Host]]:
    """Make two namespaces that reach each other, and nothing else; take them away afterwards."""
    names = [f"kgaps-{os.getpid()}-{index}" for index in range(2)]
    hosts = [
        Host(name, f"kgaps{index}", f"10.213.77.{index + 1}") for index, name in enumerate(names)
    ]
    with ExitStack() as stack:
        for host in hosts:
            _run_ip("netns", "add", host.name)
            stack.callback(_run_ip, "netns", "del", host.name)
        first, second = hosts
        cable = ("type", "veth", "peer", "name", second.interface, "netns", second.name)
        _run_ip("link", "add", first.interface, "netns", first.name, *cable)
        for host in hosts:
            inside = ("-n", host.name)
            _run_ip(*inside, "address", "add", f"{host.address}/24", "dev", host.interface)
            _run_ip(*inside, "link", "set", host.interface, "up")
            _run_ip(*inside, "link", "set", "lo", "up")
        yield first, second


def start_torchrun(
    root: Path,
    num_ranks: int,
    *arguments: str,
    hosts: tuple[Host, ...] = (),
    host: int = 0,
    max_restarts: int = 0,
    **environment: str,
) -> subprocess.Popen[str]:
    """Start kgaps by torchrun, in a session of its own, with its outputs in pipes.

    Args:
        root: of the study.
        num_ranks: on this host.
        *arguments: of kgaps.
        hosts: all that take part, in order; none is this machine alone.
        host: index of the one to start on.
        max_restarts: how often torchrun starts its ranks again.
        **environment: variables on top of this process's.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(num_ranks)]
    command += ["--max-restarts", str(max_restarts)]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), **environment}
    if hosts:
        command = ["ip", "netns", "exec", hosts[host].name, *command, "--nnodes", str(len(hosts))]
        command += ["--node-rank", str(host)]
        command += ["--master-addr", hosts[0].address, "--master-port", str(PORT)]
        variables["GLOO_SOCKET_IFNAME"] = hosts[host].interface
    else:
        command += ["--standalone"]
    return subprocess.Popen(
        [*command, "-m", "knowledge_gaps", *arguments],
        cwd=root,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end_all(*processes: subprocess.Popen[Any]) -> None:
    """End what is left of torchruns after a test that failed; their ranks end by themselves."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SEC)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.stdout is not None:
            process.stdout.close()


def _run_ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
