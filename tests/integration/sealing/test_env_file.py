"""Files of --from-env-file mean what the real kubectl takes them for."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest

from kubevault_lab.binaries import provide
from secretmanager.commands.envfile import parse
from secretmanager.errors import ConfigError

ENVIRONMENT = {"HOME": "/nowhere", "SET": "from the environment", "EMPTY": ""}

FILES = [
    b"",
    b"\xef\xbb\xbfA=1\n",
    b"A=1\n\xef\xbb\xbfB=2\n",
    b"A=a\x0cb\nB=x\xe2\x80\xa8y\n",
    b"A=1\x1cB\nB=1\xc2\x85C=2\n",
    b"A=1\x0bB=2\n",
    b"SET\nEMPTY\n",
    b"  A=1\n\xc2\xa0B=2\n\xe3\x80\x80C=3\n\x0cD=4\n",
    b"\x1cA=1\n",
    b"\x1c#x\nA=1\n",
    b"  # c\n\x0c\n\xe2\x80\xa8#d\nA=1",
    b"A =1\n",
    b"A= 1 \n",
    b"A=1\r\nB=2\r\n",
    b"A=1\r\r\n \r\nB=2",
    b"A=1\rB=2\n",
    b"A=1\nA=2\n",
    b"A-b.c=1\n-B=2\n.c=3\n",
    b"1A=1\n",
    b"=x\n",
    b"A=\xff\n",
    b"export A=1\n",
    b"A=b=c\n",
    b"A='q' \"r\" $HOME \\n #x\n",
    b"A=\n",
    b"\xc3\xa9=1\n",
    b"A:b=1\n",
    b"A\x00=1\n",
    b"A=\x00b\n",
    b"..a=1\n",
    b".=1\n",
    b"A=" + b"x" * 60_000 + b"\nB=1\n",
]


@pytest.fixture(scope="module")
def kubectl() -> Path:
    return provide(["kubectl"])["kubectl"]


@pytest.mark.parametrize("content", FILES, ids=lambda content: ascii(content[:20]))
def test_a_file_is_what_kubectl_takes_it_for(kubectl: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.env"
    path.write_bytes(content)
    command = [
        kubectl,
        "create",
        "secret",
        "generic",
        "a",
        f"--from-env-file={path}",
        "--dry-run=client",
        "--output=json",
    ]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
    if done.returncode:
        with pytest.raises(ConfigError, match=r"^file, line \d: "):
            parse(content, "file", ENVIRONMENT)
        return
    theirs = {key: base64.b64decode(value) for key, value in json.loads(done.stdout).get("data", {}).items()}
    assert {key: value.encode() for key, value in parse(content, "file", ENVIRONMENT).items()} == theirs


def test_a_name_alone_of_no_variable_is_empty_only_where_that_is_wanted(kubectl: Path) -> None:
    """For kubectl it is always. Here it is told by its line: it may be a part of a value, as of a key in PEM."""
    assert parse(b"NOSUCH\n", "file", ENVIRONMENT, allow_empty=True) == {"NOSUCH": ""}
    with pytest.raises(ConfigError, match="file, line 2: has no '=', and no variable has this name") as caught:
        parse(b"KEY=-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n", "file", ENVIRONMENT)
    assert "MII" not in str(caught.value)
    with pytest.raises(ConfigError, match="the variable of this name is not UTF-8"):
        parse(b"A\n", "file", {"A": "\udcff"})


def test_a_line_may_be_longer_than_kubectl_reads() -> None:
    assert len(parse(b"A=" + b"x" * 200_000 + b"\nB=1\n", "file", {})["A"]) == 200_000
