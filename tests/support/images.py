"""Images for pods of the tests, made of programs of this machine: `python tests/support/images.py FOLDER`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))  # where it is run as a program
from program_image import program_image
from reproducible import Entry, File, Folder, Link

from kubevault_lab.cache import target_platform

ROOT = Path(__file__).parents[2]

KUBEVAULT = "localhost/kubevault:" + tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
"""The image of the command kubevault, as tools/build_image.py names it."""

BUSYBOX = "localhost/busybox:1"
"""A shell and the usual small programs, as applets of one static program (Debian's busybox-static)."""

PROBE = "localhost/probe:1"
"""A static Go program and nothing else; tests/support/probe/main.go says what it does."""

WEB = "localhost/web:1"
"""Debian's nginx, which serves the folder /srv on port 8080 as any user."""

_NGINX_CONF = b"""\
daemon off;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server {
        listen 8080;
        root /srv;
    }
}
"""


def busybox() -> bytes:
    """Return the archive of the image BUSYBOX."""
    program = Path("/bin/busybox")
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    links: dict[str, Entry] = {f"bin/{applet}": Link("busybox") for applet in applets if applet != "busybox"}
    files = {"bin/busybox": File(program.read_bytes(), 0o755), "tmp": Folder(0o1777)}
    return program_image(BUSYBOX, links | files, ["/bin/sh"])


def probe() -> bytes:
    """Return the archive of the image PROBE; Go builds it."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "probe")
        command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", program]
        env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
        subprocess.run(command, cwd=Path(__file__).parent / "probe", env=env, check=True)
        return program_image(PROBE, {"probe": File(program.read_bytes(), 0o755)}, ["/probe"])


def web() -> bytes:
    """Return the archive of the image WEB, with the libraries that its program loads."""
    program = Path("/usr/sbin/nginx")
    loaded = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    files: dict[str, Entry] = {
        path.removeprefix("/"): File(Path(path).read_bytes(), 0o755)
        for path in [str(program), *re.findall(r"(/\S+)", loaded)]
    }
    files |= {"etc/nginx/nginx.conf": File(_NGINX_CONF), "tmp": Folder(0o1777), "srv": Folder()}
    return program_image(WEB, files, [str(program), "-c", "/etc/nginx/nginx.conf"])


def main() -> None:
    """Write the archives, and the image of the command kubevault, into the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    build = [sys.executable, ROOT / "tools/build_image.py", f"--platform={target_platform()[1]}", folder / "kubevault"]
    subprocess.run(build, check=True)
    for make in (busybox, probe, web):
        (folder / f"{make.__name__}.tar").write_bytes(make())


if __name__ == "__main__":
    main()
