"""A locale whose encoding is not UTF-8, as Debian's de_DE: what is read, sealed and written is UTF-8 all the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.ansible import BIN
from support.sealing import Chain

TEXT = "für 10 €"
"""Text that Latin-1 has other bytes for, and a sign that it does not have."""

POD = f"""\
# {TEXT}
apiVersion: v1
kind: Pod
metadata: {{name: shop, annotations: {{note: "{TEXT}"}}}}
spec: {{containers: [{{name: shop, command: [shop]}}]}}
"""

Kubevault = Callable[..., bytes]


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("locales")
    subprocess.run(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", folder / "de_DE.ISO-8859-1"], check=True)
    return folder


@pytest.fixture
def kubevault(env: dict[str, str], locales: Path, tmp_path: Path) -> Kubevault:
    """Runs the command in that locale, as a terminal that writes UTF-8 does; returns what it prints."""
    latin = {**env, "LOCPATH": str(locales), "LC_ALL": "de_DE.ISO-8859-1"}
    for name in ("LANG", "PYTHONUTF8", "PYTHONIOENCODING"):
        latin.pop(name, None)
    encoding = [BIN / "python", "-c", "import sys; print(sys.getfilesystemencoding())"]
    assert subprocess.check_output(encoding, env=latin) == b"iso8859-1\n"

    def run(*arguments: str, status: int = 0) -> bytes:
        command = [os.fsencode(BIN / "kubevault"), *(argument.encode() for argument in arguments)]
        done = subprocess.run(command, env=latin, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return run


def test_arguments_and_files_are_utf_8(chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path) -> None:
    place, path = f"{chain.namespace}/{name}", tmp_path / "größe €.txt"
    path.write_text(TEXT)
    (tmp_path / "values.env").write_text(f"variable={TEXT}\n")
    options = ["--transit-key=derived", f"--from-file=a={path.name}", "--from-env-file=values.env"]
    kubevault("seal", place, *options, f"--annotation=note={TEXT}", "--manifest=é.yaml", "--apply")
    assert chain.opened(name) == {"a": TEXT.encode(), "variable": TEXT.encode()}
    assert chain.secret(name)["metadata"]["annotations"]["note"] == TEXT
    assert yaml.safe_load((tmp_path / "é.yaml").read_text())["metadata"]["annotations"]["note"] == TEXT
    assert f"name '{TEXT}' is not allowed" in kubevault("info", f"{chain.namespace}/{TEXT}", status=2).decode()


def test_values_are_handed_on_as_they_are(
    chain: Chain, name: str, kubevault: Kubevault, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "a").write_text(TEXT)
    kubevault("seal", f"{chain.namespace}/{name}", "--transit-key=plain", "--from-file=a", "--scope=cluster-wide")
    Path(env["VAULT_TOKEN_FILE"]).write_text(chain.vault.root.token or "")
    program = "import os; print(os.environb[b'a'])"
    done = kubevault("exec", f"--secret={chain.namespace}/{name}", "--", str(BIN / "python"), "-c", program)
    assert done.decode().strip() == repr(TEXT.encode())
    assert TEXT in kubevault("read", f"{chain.namespace}/{name}").decode()


def test_manifests_stay_byte_for_byte(kubevault: Kubevault, tmp_path: Path) -> None:
    options = [
        "--with=exec",
        "--secret=a",
        "--role=r",
        "--vault-url=https://v:8200",
        f"--image=kubevault@sha256:{64 * '0'}",
    ]
    (tmp_path / "pod.yaml").write_text(POD)
    printed = kubevault("inject", "pod.yaml", *options)
    assert printed.startswith(f"# {TEXT}\n".encode())
    assert yaml.safe_load(printed)["metadata"]["annotations"]["note"] == TEXT
    kubevault("inject", "pod.yaml", *options, "--in-place")
    assert (tmp_path / "pod.yaml").read_bytes() == printed
    kubevault("inject", "pod.yaml", "--remove", "--in-place")
    assert (tmp_path / "pod.yaml").read_text() == POD
