"""Servers on loopback that tests start and stop: OpenSSH's, with keys of its own, and one that speaks S3."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import boto3
import pytest
from moto.server import ThreadedMotoServer

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin")
needs_sshd = pytest.mark.skipif(
    SSHD is None and "GITHUB_ACTIONS" not in os.environ,
    reason="needs OpenSSH's server (openssh-server), which pip cannot install; .ci/run fetches it where apt can",
)
LOOPBACK = "127.0.0.1"
BUCKET = "semdefect"


@dataclass(frozen=True)
class SSHServer:
    """A running sshd that takes the key ``key`` of the user who runs the tests."""

    #: The true one, and one that it does not have.
    HOST_KEYS: ClassVar = ("host_key", "stranger")

    folder: Path
    port: int

    @property
    def login(self) -> str:
        return f"{getpass.getuser()}@{LOOPBACK}"

    @property
    def key(self) -> Path:
        return self.folder / "client_key"

    def known_hosts(self, key: str) -> Path:
        """A file for OpenSSH's client that expects the host key ``key`` of this server."""
        path = self.folder / f"known_{key}"
        path.write_text(f"[{LOOPBACK}]:{self.port} {(self.folder / key).with_suffix('.pub').read_text()}")
        return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _write_configuration(folder: Path, port: int) -> Path:
    for name in (*SSHServer.HOST_KEYS, "client_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    path = folder / "sshd_config"
    path.write_text(
        f"Port {port}\nListenAddress {LOOPBACK}\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/client_key.pub\nPidFile none\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
        "StrictModes no\n"  # everyone may write to /tmp, where the keys are
    )
    return path


@contextmanager
def ssh_server(folder: Path) -> Iterator[SSHServer]:
    """An OpenSSH server for the user who runs the tests; its files are in ``folder``."""
    assert SSHD, "install openssh-server"
    if os.getuid() == 0:  # as the system's own service does before it starts sshd
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = SSHServer(folder, _free_port())
    configuration = _write_configuration(folder, server.port)
    with (folder / "sshd.log").open("w") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(configuration)], stderr=log)
        try:
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=10)


def _wait(server: SSHServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, server.port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"sshd did not start:\n{(server.folder / 'sshd.log').read_text()}")


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of an S3 server with an empty ``BUCKET``; it takes any key and keeps all in memory."""
    server = ThreadedMotoServer(ip_address=LOOPBACK, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        s3_client(address).create_bucket(Bucket=BUCKET)
        yield address
    finally:
        server.stop()


def s3_client(address: str):
    return boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
