"""The command kubevault on real servers: as people without Ansible use it."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import forked
from support.ansible import BIN
from support.cluster import own_namespace
from support.sealing import SEALER, Chain, environment
from support.servers import PATIENCE, wait_until

from secretmanager.options import CREDENTIAL_VARIABLES
from secretmanager.sealed import sealed_values, with_ciphertexts
from secretmanager.servers.vault import TransitItem

PLAIN = "follow-the-white-rabbit"

Kubevault = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def env(chain: Chain, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "token").write_text(f"{chain.token}\n")
    (tmp_path / "reader").write_text(chain.token_for({"transit/decrypt/+": ["update"]}))
    return environment(chain, tmp_path / "token")


@pytest.fixture
def kubevault(env: dict[str, str], tmp_path: Path) -> Kubevault:
    """Runs the command; its errors hold no plaintext.

    As users start it with `installed`, else in a process that is forked, which costs less.
    """

    def run(
        *arguments: str, stdin: bytes = b"", status: int = 0, installed: bool = False, **more: str
    ) -> subprocess.CompletedProcess[bytes]:
        if installed:
            command = [BIN / "kubevault", *arguments]
            done = subprocess.run(
                command, input=stdin, env={**env, **more}, cwd=tmp_path, capture_output=True, check=False
            )
        else:
            done = forked.kubevault(*arguments, stdin=stdin, env={**env, **more}, folder=tmp_path)
        assert done.returncode == status, done.stdout + done.stderr
        assert PLAIN.encode() not in done.stderr
        assert b"Traceback" not in done.stderr
        return done

    return run


def test_seal_and_seal_again(chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path) -> None:
    spot = f"{chain.namespace}/{name}"
    (tmp_path / "file.bin").write_bytes(b"\x00\xff")
    (tmp_path / "env").write_text(f"# of a service\nUSER=neo\n\nPASSWORD={PLAIN}=x\n")
    arguments = ["seal", spot, "--transit-key", "derived", "--from-file", "stdin=-", "--from-file", "file.bin"]
    arguments += ["--from-env-file", "env", "--label", "app=x", "--annotation", "example.org/a=b=c"]
    checked = kubevault(*arguments, "--check", stdin=PLAIN.encode(), status=3)
    assert not chain.api.list_namespaced_secret(chain.namespace, field_selector=f"metadata.name={name}").items
    assert checked.stderr == b"kubevault: --check: this is what would be done; nothing was changed\n"
    sealed = kubevault(*arguments, stdin=PLAIN.encode())
    expected = "created (strict): added stdin, file.bin, USER, PASSWORD; set labels, annotations\n"
    assert checked.stdout.decode() == f"{spot}: would be {expected}"
    assert sealed.stdout.decode() == f"{spot}: {expected}"
    for check in (("--check",), ()):
        again = kubevault(*arguments, *check, stdin=PLAIN.encode())
        assert again.stdout.decode() == f"{spot}: unchanged (strict)\n"
    assert chain.opened(name) == {
        "stdin": PLAIN.encode(),
        "file.bin": b"\x00\xff",
        "USER": b"neo",
        "PASSWORD": f"{PLAIN}=x".encode(),
    }
    assert chain.secret(name)["metadata"]["annotations"] == {"example.org/a": "b=c"}
    gone = kubevault("seal", spot, "--absent-key", "USER", "--output", "json")
    assert json.loads(gone.stdout)[0]["removed"] == ["USER"]
    assert b": deleted" in kubevault("seal", spot, "--state", "absent").stdout


def test_many_secrets_from_a_file(chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path) -> None:
    entries = [
        {"namespace": chain.namespace, "name": f"{name}-{n}", "data": {"a": {"n": n, "password": PLAIN}}}
        for n in range(25)
    ]
    entries[1]["binary_data"] = {"b": "AAE="}
    (tmp_path / "secrets.yml").write_text(yaml.safe_dump({"secrets": entries}))
    arguments = ["seal", "--transit-key", "derived", "--output", "json", "--secrets"]
    done = kubevault(*arguments, "secrets.yml")
    assert [outcome["action"] for outcome in json.loads(done.stdout)] == ["created"] * 25
    done = kubevault(*arguments, "-", stdin=yaml.safe_dump(entries).encode())
    assert [outcome["action"] for outcome in json.loads(done.stdout)] == ["unchanged"] * 25
    assert chain.opened(f"{name}-1")["b"] == b"\x00\x01"


def test_many_lines_have_a_sum(chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path) -> None:
    entries = [{"namespace": chain.namespace, "name": f"{name}-{n}", "data": {"a": PLAIN}} for n in range(12)]
    (tmp_path / "secrets.yml").write_text(yaml.safe_dump(entries))
    (tmp_path / "some.yml").write_text(yaml.safe_dump(entries[:3]))
    seal = ["seal", "--transit-key", "derived", "--label", f"set={name}", "--secrets"]
    few = kubevault(*seal, "some.yml").stdout.decode()
    assert "Secrets: " not in few
    last = kubevault(*seal, "secrets.yml").stdout.decode().splitlines()[-1]
    assert last == "12 Secrets: 3 unchanged, 9 created"
    told = kubevault("info", chain.namespace, "-l", f"set={name}").stdout.decode().splitlines()
    assert told[-1] == "12 Secrets"


def test_an_interrupted_run_says_what_is_done_and_the_next_one_finishes_it(
    chain: Chain, name: str, env: dict[str, str], kubevault: Kubevault, tmp_path: Path
) -> None:
    entries = [{"namespace": chain.namespace, "name": f"{name}-{n}", "data": {"a": PLAIN}} for n in range(300)]
    (tmp_path / "secrets.yml").write_text(yaml.safe_dump(entries))
    arguments = [
        "seal",
        "--transit-key",
        "derived",
        "--label",
        f"set={name}",
        "--concurrency",
        "1",
        "--secrets",
        "secrets.yml",
    ]

    def written() -> int:
        return len(chain.api.list_namespaced_secret(chain.namespace, label_selector=f"set={name}").items)

    with subprocess.Popen(
        [BIN / "kubevault", *arguments],
        env=env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until("some Secrets", lambda: written() > 5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    told = re.search(
        r"interrupted: at least (\d+) of 300 Secrets were written, each whole; the same command seals the rest", said
    )
    assert told, said
    done = written()
    assert int(told[1]) <= done <= int(told[1]) + 1 < 300
    last = kubevault(*arguments).stdout.decode().splitlines()[-1]
    assert last == f"300 Secrets: {done} unchanged, {300 - done} created"
    chain.api.delete_collection_namespaced_secret(chain.namespace, label_selector=f"set={name}")


def test_info_says_that_a_key_was_deleted(chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path) -> None:
    chain.vault.new_key("deleted", derived=True)
    spot = f"{chain.namespace}/{name}"
    root = {"VAULT_TOKEN": chain.vault.root.token or ""}
    kubevault("seal", spot, "--transit-key", "deleted", "--from-file", "a=-", stdin=b"x", **root)
    chain.vault.write("transit/keys/deleted/config", deletion_allowed=True)
    chain.vault.delete("transit/keys/deleted")
    told = kubevault("info", spot, "--fail-if", "behind", status=3, **root)
    assert (
        f"{spot}: deleted, strict, the Transit key does not exist: deleted\n  a: v1 UNREADABLE\n"
        in told.stdout.decode()
    )
    assert b"not known whether behind: a (Transit key deleted does not exist)" in told.stderr
    assert json.loads(kubevault("info", spot, "--output", "json", **root).stdout)[0]["key_missing"] is True


def test_a_progress_bar_on_a_terminal(chain: Chain, name: str, env: dict[str, str], tmp_path: Path) -> None:
    entries = [{"namespace": chain.namespace, "name": f"{name}-{n}", "data": {"a": PLAIN}} for n in range(30)]
    (tmp_path / "secrets.yml").write_text(yaml.safe_dump(entries))
    command = [str(BIN / "kubevault"), "seal", "--transit-key", "derived", "--secrets", "secrets.yml"]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(command[0], command, {**env, "TERM": "xterm", "COLUMNS": "100"})
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # its end: the terminal has no more users
            break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    assert b"sealing" in shown
    assert b"/30" in shown
    assert shown.count(b": created") == 30
    assert PLAIN.encode() not in shown


def test_a_value_is_asked_for_without_echo(chain: Chain, name: str, env: dict[str, str]) -> None:
    command = [
        str(BIN / "kubevault"),
        "seal",
        f"{chain.namespace}/{name}",
        "--transit-key",
        "derived",
        "--prompt",
        "pw",
    ]
    child, terminal = pty.fork()
    if child == 0:
        os.execve(command[0], command, env)
    shown = b""
    for expected in (b"pw: ", b"confirmation: "):
        while expected not in shown.lower():
            shown += os.read(terminal, 1)
        os.write(terminal, PLAIN.encode() + b"\n")
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:
            break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    assert PLAIN.encode() not in shown
    assert chain.opened(name) == {"pw": PLAIN.encode()}


def test_a_manifest(chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path) -> None:
    spot = f"{chain.namespace}/{name}"
    arguments = ["seal", spot, "--transit-key", "derived", "--from-file", "a=-", "--manifest", "sealed.yml"]
    assert b": created" in kubevault(*arguments, stdin=PLAIN.encode()).stdout
    written = (tmp_path / "sealed.yml").read_bytes()
    assert PLAIN.encode() not in written
    assert base64.b64encode(PLAIN.encode()) not in written
    assert b": unchanged" in kubevault(*arguments, stdin=PLAIN.encode()).stdout
    assert (tmp_path / "sealed.yml").read_bytes() == written
    assert b": created" in kubevault(*arguments, "--apply", stdin=PLAIN.encode()).stdout
    assert chain.secret(name)["data"] == yaml.safe_load(written)["data"]


SECRET = """\
apiVersion: v1
kind: Secret
metadata:
  name: {name}
stringData:
  pw: {plain}  # {plain}
"""
IN_GIT = {
    "without a namespace": SECRET,
    "in a List": "kind: List\nitems:\n- " + SECRET.rstrip().replace("\n", "\n  ") + "\n",
    "with a byte order mark": "\ufeffkind: Other\n---\n" + SECRET,
}


@pytest.mark.parametrize("manifest", IN_GIT.values(), ids=IN_GIT)
def test_a_plaintext_secret_in_git_is_sealed_in_place(
    chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path, manifest: str
) -> None:
    """Most name no namespace: kustomize or GitOps give it. A second document would leave the plaintext in the first."""
    path = tmp_path / "f.yml"
    path.write_text(manifest.format(name=name, plain=PLAIN) + "---\nkind: Another\n")
    before = list(yaml.safe_load_all(path.read_text(encoding="utf-8-sig")))
    arguments = ["seal", f"{chain.namespace}/{name}", "--transit-key", "derived", "--manifest", "f.yml"]
    kubevault(*arguments, "--adopt")
    assert PLAIN not in path.read_text()
    after = list(yaml.safe_load_all(path.read_text(encoding="utf-8-sig")))
    assert [each["kind"] for each in after] == [each["kind"] for each in before]
    (secret,) = [item for each in after for item in each.get("items", [each]) if item["kind"] == "Secret"]
    assert (secret["metadata"]["namespace"], set(sealed_values(secret))) == (chain.namespace, {"pw"})
    assert path.read_text().startswith("\ufeff") == manifest.startswith("\ufeff")
    assert b": unchanged" in kubevault(*arguments, "--from-file", "pw=-", stdin=PLAIN.encode()).stdout


def test_an_empty_value_is_refused_and_a_line_end_is_told(chain: Chain, name: str, kubevault: Kubevault) -> None:
    """As of a program before the pipe that failed, and of echo."""
    arguments = ["seal", f"{chain.namespace}/{name}", "--transit-key", "derived", "--from-file", "pw=-"]
    kubevault(*arguments, stdin=b"good")
    refused = kubevault(*arguments, stdin=b"", status=1)
    assert b"data key pw: the value is empty; set --allow-empty if it is meant" in refused.stderr
    assert chain.opened(name) == {"pw": b"good"}
    assert (
        b"pw: the value ends with a line end, as echo and editors write it"
        in kubevault(*arguments, stdin=b"x\n").stderr
    )
    assert chain.opened(name) == {"pw": b"x\n"}
    for value in (b"y\n", b"y\r\n", b"y"):
        assert kubevault(*arguments, "--trim", stdin=value).stderr == b""
        assert chain.opened(name) == {"pw": b"y"}
    assert kubevault(*arguments, stdin=b"-----BEGIN\n-----END\n").stderr == b""
    assert kubevault(*arguments, "--allow-empty", stdin=b"").stderr == b""
    assert chain.opened(name) == {"pw": b""}


def test_what_is_sealed_where(chain: Chain, name: str, kubevault: Kubevault) -> None:
    chain.seal(chain.wanted(name, {"a": b"1"}, transit_key="other"))
    chain.api.patch_namespaced_secret(name, chain.namespace, {"stringData": {"plain": "x"}})
    shown = kubevault("info", f"{chain.namespace}/{name}", installed=True).stdout.decode()
    assert shown == f"{chain.namespace}/{name}: other, strict, newest\n  a: v1\n  plain keys: plain\n"
    listed = json.loads(kubevault("info", chain.namespace, "--output", "json").stdout)
    (found,) = [item for item in listed if item["name"] == name]
    assert (found["newest_version"], found["behind"], found["plain_keys"]) == (1, False, ["plain"])
    assert b"version unknown" in kubevault("info", f"{chain.namespace}/{name}", VAULT_ADDR="").stdout


def test_what_is_behind_and_what_no_longer_opens(chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path) -> None:
    key, spot = f"key-{name}", f"{chain.namespace}/{name}"
    chain.vault.new_key(key)
    (tmp_path / "token").write_text(chain.vault.root.token)
    arguments = ["seal", spot, "--transit-key", key, "--from-file"]
    kubevault(*arguments, "a=-", stdin=b"1")
    checks = [f"--fail-if={kind}" for kind in ("behind", "damaged", "plain", "unreadable")]
    assert kubevault("info", spot, *checks).stdout.decode().endswith(", newest\n  a: v1, 0 days old\n")
    chain.vault.write(f"transit/keys/{key}/rotate")
    kubevault(*arguments, "b=-", stdin=b"2")
    kubevault("info", spot, *checks[1:])
    assert kubevault("info", spot, *checks, status=3).stderr.decode() == f"kubevault: {spot}: behind: a\n"
    chain.vault.write(f"transit/keys/{key}/config", min_decryption_version=2)
    chain.api.patch_namespaced_secret(name, chain.namespace, {"stringData": {"plain": "x", "b": "vault:v2:QUJD"}})
    done = kubevault("info", spot, *checks, status=3)
    assert "  a: v1 UNREADABLE\n  b: v2, 0 days old DAMAGED\n" in done.stdout.decode()
    found = ["behind: a", "damaged: b", "plain: plain", "unreadable: a"]
    assert done.stderr.decode().splitlines() == [f"kubevault: {spot}: {line}" for line in found]
    (item,) = json.loads(kubevault("info", spot, "--output", "json").stdout)
    assert item["keys"]["a"]["unreadable"] is True
    assert (item["keys"]["a"]["age_days"], item["keys"]["b"]["age_days"]) == (None, 0)  # Vault does not tell the former
    chain.vault.write(f"transit/keys/{key}/config", deletion_allowed=True)
    chain.vault.root.request("DELETE", f"transit/keys/{key}")
    done = kubevault("info", spot, "--fail-if", "unreadable", status=3)
    assert done.stderr.decode() == f"kubevault: {spot}: unreadable: a, b\n"


def test_plaintext_over_a_sealed_value_is_no_sealed_value(chain: Chain, name: str, kubevault: Kubevault) -> None:
    spot, arguments = f"{chain.namespace}/{name}", ["--transit-key", "derived"]
    chain.seal(chain.wanted(name, {"a": b"1", "b": b"2", "c": b"3"}))
    patch = {"stringData": {"a": PLAIN, "b": "", "c": "vault:v1:short"}}
    chain.api.patch_namespaced_secret(name, chain.namespace, patch)
    for kind, keys in {"plain": "a, b", "damaged": "c"}.items():
        done = kubevault("info", spot, "--fail-if", kind, status=3)
        assert done.stderr.decode() == f"kubevault: {spot}: {kind}: {keys}\n"
    told = kubevault("seal", spot, *arguments, "--from-file", "c=-", stdin=b"3")
    assert b"somebody wrote plaintext over the sealed data keys a, b; set adopt to seal it" in told.stderr
    kubevault("seal", spot, *arguments, "--adopt")
    kubevault("info", spot, "--fail-if", "plain", "--fail-if", "damaged")
    assert chain.opened(name) == {"a": PLAIN.encode(), "b": b"", "c": b"3"}


def test_a_copy_is_told_with_the_secret_it_was_sealed_for(chain: Chain, name: str, kubevault: Kubevault) -> None:
    """Vault would say that a message could not be authenticated."""
    chain.seal(chain.wanted(name, {"a": b"1", "b": b"2"}))
    spot, copy = f"{chain.namespace}/{name}", f"{chain.namespace}/{name}-copy"
    chain.put(f"{name}-copy", chain.data(name))
    told = kubevault("info", copy, "--fail-if", "unreadable", "--fail-if", "damaged", status=3, VAULT_ADDR="")
    assert told.stderr.decode() == f"kubevault: {copy}: unreadable: a, b (sealed for {spot})\n"
    assert f"  a copy: sealed for {spot}, and not to be opened here\n" in told.stdout.decode()
    refused = kubevault("read", copy, "--token-file", "reader", status=1).stderr.decode()
    assert f"the Secret is a copy: its values were sealed for {spot}, scope strict" in refused
    arguments = ["seal", copy, "--transit-key", "derived", "--from-file", "a=-"]
    assert f", for {spot}" in kubevault(*arguments, stdin=b"1", status=1).stderr.decode()
    kubevault(*arguments, "--absent-key", "b", stdin=b"1")
    kubevault("info", copy, "--fail-if", "damaged", "--fail-if", "behind")
    assert chain.opened(f"{name}-copy") == {"a": b"1"}


def test_what_is_not_there_does_not_pass(chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path) -> None:
    fails = ("--fail-if", "behind", "--fail-if", "plain")
    missing = kubevault("info", "nosuch", *fails, status=1).stderr
    assert b'nosuch: namespaces "nosuch" not found' in missing
    with own_namespace("empty") as empty:
        told = kubevault("info", empty.namespace, *fails).stderr.decode()
    assert f"there is no sealed Secret in {empty.namespace} with the labels 'kubevault.io/sealed=true'" in told
    chain.seal(chain.wanted(name, {"a": b"1"}))
    assert b"no sealed Secret names the Transit key nokey" in kubevault("info", "--reseal", "nokey", status=1).stderr
    assert kubevault("info", "--reseal", "plain:99", chain.namespace).stderr == b""
    (tmp_path / "s.yml").touch()
    assert b"s.yml is a file, and what is asked about is Secrets" in kubevault("info", "s.yml", status=2).stderr
    assert b"namespace 'no_such' is not allowed" in kubevault("info", "no_such/x", status=2).stderr


def test_what_is_not_known_does_not_pass(chain: Chain, name: str, kubevault: Kubevault) -> None:
    spot = f"{chain.namespace}/{name}"
    chain.seal(chain.wanted(name, {"a": b"1"}, transit_key="other"))
    kubevault("info", spot, "--fail-if", "behind")  # a sealer may know that
    assert b": not known whether unreadable: a (" in kubevault("info", spot, "--fail-if=unreadable", status=3).stderr
    kubevault("info", spot, "--fail-if=behind", VAULT_ADDR="", status=3)
    chain.put(f"{name}-old", {"a": b"vault:v1:QUJD"})
    kubevault("info", f"{spot}-old", "--fail-if=behind", status=3)
    kubevault("info", f"{spot}-old", "--fail-if=behind", "--transit-key=plain")


def test_what_to_change_at_its_source(chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path) -> None:
    """A rewrap does not make a value safe from whoever knows the version that sealed it before."""
    key, spot = f"key-{name}", f"{chain.namespace}/{name}"
    chain.vault.new_key(key)
    (tmp_path / "token").write_text(chain.vault.root.token)
    arguments = ["seal", spot, "--transit-key", key, "--from-file"]
    kubevault(*arguments, "a=-", stdin=b"1")
    chain.vault.write(f"transit/keys/{key}/rotate")
    kubevault(*arguments, "b=-", stdin=b"2")
    (text,) = chain.vault.root.rewrap(key, [TransitItem(chain.data(name)["a"])])
    chain.kubernetes().update_secret(chain.namespace, with_ciphertexts(chain.secret(name), {"a": text}))
    chain.put(f"{name}-old", {"o": text.encode()})
    chain.seal(chain.wanted(f"{name}-other", {"x": b"1"}))

    def told(*more: str) -> list[str]:
        lines = kubevault("info", chain.namespace, "--selector=", *more).stdout.decode().splitlines()
        return [line for line in lines if line.startswith(f"{spot}:") or line.startswith(f"{spot}-")]

    assert told(f"--reseal={key}:1") == [f"{spot}: a", f"{spot}-old: o"]
    assert told(f"--reseal={key}:1", "--transit-key=other") == [f"{spot}: a"]
    assert told(f"--reseal={key}") == [f"{spot}: a, b", f"{spot}-old: o"]
    kubevault(*arguments, "a=-", stdin=b"changed")
    assert told(f"--reseal={key}:1", "--transit-key=other") == []
    shown = json.loads(kubevault("info", spot, f"--reseal={key}", "--output=json").stdout)
    assert shown == [{"namespace": chain.namespace, "name": name, "keys": ["a", "b"]}]
    assert b"allowed is TRANSIT_KEY or" in kubevault("info", f"--reseal={key}:x", status=2).stderr


def test_read_where_policy_permits(chain: Chain, name: str, kubevault: Kubevault) -> None:
    chain.seal(chain.wanted(name, {"text": PLAIN.encode(), "binary": b"\x00\xff"}))
    spot = f"{chain.namespace}/{name}"
    refused = kubevault("read", spot, status=1, installed=True)
    assert b"transit/decrypt/derived" in refused.stderr
    assert b"lack the capability update" in refused.stderr
    reader = ["--token-file", "reader"]
    assert kubevault("read", f"{spot}/binary", *reader, installed=True).stdout == b"\x00\xff"
    assert json.loads(kubevault("read", spot, *reader).stdout) == {"text": PLAIN, "binary (base64)": "AP8="}
    one = kubevault("read", f"{spot}/text", "--output", "json", *reader)
    assert json.loads(one.stdout) == {"text": PLAIN}
    assert b"there is no such data key" in kubevault("read", f"{spot}/nosuch", *reader, status=1).stderr


def test_run_a_program_with_secrets(chain: Chain, name: str, kubevault: Kubevault) -> None:
    chain.seal(chain.wanted(name, {"json": b'{"user": "neo", "port": 1}', "a-b": b"x"}))
    chain.seal(chain.wanted(f"{name}-2", {"other": b"\x00binary"}))
    spot = f"{chain.namespace}/{name}"
    kubevault = partial(kubevault, installed=True)
    run = ["exec", "--token-file", "reader", "--secret"]
    shown = kubevault(
        *run, f"{spot}/json", "--env-prefix", "M_", "--", "sh", "-c", 'echo "$M_user $M_port"; exit 5', status=5
    )
    assert shown.stdout == b"neo 1\n"
    shown = kubevault(*run, spot, "--", "sh", "-c", 'echo "$a_b $json"; tr "\\0" "\\n" < /proc/$PPID/cmdline')
    assert shown.stdout.startswith(b'x {"user": "neo", "port": 1}\n')
    script = 'cd "$KUBEVAULT_FILES" && cat a-b other && pwd'
    shown = kubevault(*run, spot, "--secret", f"{spot}-2", "--files", "--", "sh", "-c", script)
    values, binary, folder = shown.stdout.partition(b"\x00binary")
    assert (values, binary) == (b"x", b"\x00binary")
    assert not Path(folder.decode().strip()).exists()
    twice = kubevault(*run, spot, "--secret", spot, "--", "true", status=125)
    assert b"is in several of the Secrets" in twice.stderr
    assert b"is not text that fits a variable" in kubevault(*run, f"{spot}-2", "--", "true", status=125).stderr
    assert b"No such file" in kubevault(*run, spot, "--", "nosuch-program", status=127).stderr
    kubevault("exec", "--secret", spot, "--", "true", status=125)


@pytest.mark.parametrize("files", [(), ("--files",)], ids=["variables", "files"])
def test_a_program_does_not_get_what_kubevault_logs_in_with(
    chain: Chain, name: str, kubevault: Kubevault, files: tuple[str, ...]
) -> None:
    chain.seal(chain.wanted(name, {"a": b"x"}))
    credentials = dict.fromkeys(
        CREDENTIAL_VARIABLES - {"VAULT_TOKEN_FILE", "VAULT_TOKEN", "K8S_AUTH_API_KEY"}, "PLAIN-1"
    )
    credentials["VAULT_TOKEN"] = chain.token_for({"transit/decrypt/derived": ["update"]})
    # Which the options of a host need; here the kubeconfig says who asks.
    credentials |= {"K8S_AUTH_CERT_FILE": "/nosuch", "K8S_AUTH_KEY_FILE": "/nosuch", "VAULT_TOKEN_FILE": ""}
    cert, key = map(str, chain.vault.clients.issue("exec"))
    credentials |= {"VAULT_CLIENT_CERT": cert, "VAULT_CLIENT_KEY": key}
    credentials |= {"VAULT_PROXY_ADDR": "environment", "K8S_AUTH_PROXY": "environment"}
    run = ["exec", *files, "--secret", f"{chain.namespace}/{name}"]
    shown = kubevault(*run, "--", "env", **credentials, KEPT="yes").stdout.decode()
    names = {line.partition("=")[0] for line in shown.splitlines()}
    assert not names & CREDENTIAL_VARIABLES
    assert "PLAIN-1" not in shown
    assert {"KEPT", "PATH", "VAULT_ADDR", "KUBEVAULT_FILES" if files else "a"} <= names
    kept = kubevault(*run, "--keep-env", "VAULT_SECRET_ID", "--", "env", **credentials).stdout.decode()
    assert "VAULT_SECRET_ID=PLAIN-1\n" in kept
    assert "VAULT_TOKEN=" not in kept


SEEN = """
import json, os, resource
parent, readable = os.getppid(), []
for name in ("environ", "mem", "maps", "fd/0"):
    try:
        (os.readlink if name == "fd/0" else open)(f"/proc/{parent}/{name}")
    except PermissionError:
        continue
    readable.append(name)
limits = [line.split()[4:6] for line in open(f"/proc/{parent}/limits") if line.startswith("Max core file size")]
open("/proc/self/environ")
print(json.dumps([readable, limits, resource.getrlimit(resource.RLIMIT_CORE), sorted(os.environ)]))
"""
"""A program that prints what it can read of its parent, and its own limit of core files."""


@pytest.mark.parametrize("files", [True, False])
def test_a_program_cannot_read_kubevault(
    chain: Chain, name: str, env: dict[str, str], tmp_path: Path, files: bool
) -> None:
    """As root of a container, who has none of the capabilities of root on a host, and so is as any other user."""
    chain.seal(chain.wanted(name, {"a": b"x"}))
    token = chain.token_for({"transit/decrypt/derived": ["update"]})
    limited = ["prlimit", "--core=4096:8192", "setpriv", "--bounding-set", "-all", "--inh-caps=-all"]
    if not files:  # then kubevault becomes the program, and its parent is one that is not protected
        limited += ["sh", "-c", '"$@"; true', "sh"]
    run = [BIN / "kubevault", "exec", *(["--files"] if files else []), "--secret", f"{chain.namespace}/{name}"]
    command = [*limited, *run, "--", sys.executable, "-c", SEEN]
    given = {**env, "VAULT_TOKEN": token}
    done = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True, check=True)
    readable, limits, own, variables = json.loads(done.stdout)
    assert own == [4096, 8192]
    assert readable == ([] if files else ["environ", "mem", "maps", "fd/0"])
    assert limits == [["0" if files else "4096", "8192"]]
    assert "VAULT_TOKEN" not in variables


def test_a_token_that_it_got_is_revoked(chain: Chain, name: str, kubevault: Kubevault, tmp_path: Path) -> None:
    vault = chain.vault
    vault.policy("cli", {**SEALER, "transit/decrypt/derived": ["update"], "auth/token/revoke-self": ["update"]})
    vault.write("sys/auth/for-cli", type="approle")
    vault.write("auth/for-cli/role/cli", token_policies=["cli"], token_no_default_policy=True)
    role_id = vault.root.request("GET", "auth/for-cli/role/cli/role-id").json()["data"]["role_id"]
    (tmp_path / "secret-id").write_text(vault.write("auth/for-cli/role/cli/secret-id")["data"]["secret_id"])
    log_in = ["--auth-method", "approle", "--auth-mount", "for-cli", "--role-id", role_id]
    log_in += ["--secret-id-file", "secret-id"]
    spot = f"{chain.namespace}/{name}"
    kubevault("seal", spot, "--transit-key", "derived", "--from-file", "a=-", *log_in, stdin=PLAIN.encode())
    assert kubevault("read", f"{spot}/a", *log_in).stdout == PLAIN.encode()
    kubevault("exec", "--secret", spot, *log_in, "--", "true")
    accessors = vault.root.request("LIST", "auth/token/accessors").json()["data"]["keys"]
    names = [vault.write("auth/token/lookup-accessor", accessor=item)["data"]["display_name"] for item in accessors]
    assert "for-cli" not in names


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["seal"], 2, "give NAMESPACE/NAME or --secrets, and not both"),
        (["seal", "a/b", "--secrets", "-"], 2, "give NAMESPACE/NAME or --secrets, and not both"),
        (["seal", "a"], 2, "SECRET: found 'a'; allowed is NAMESPACE/NAME"),
        (["seal", "a/b/c", "--transit-key", "k"], 2, "data keys are given by --from-file KEY=PATH"),
        (["seal", "a/b"], 1, "nothing to seal"),
        (["seal", "a/b", "--from-file", "x=-"], 1, "--transit-key is missing"),
        (["seal", "a/B", "--from-file", "x=-", "--transit-key", "k"], 1, "name 'B' is not allowed"),
        (["seal", "a/b", "--from-file", "=x"], 2, "--from-file: found '=x'; allowed is [KEY=]PATH"),
        (["seal", "a/b", "--from-file", "nosuch"], 1, "--from-file: nosuch: No such file or directory"),
        (["seal", "a/b", "--from-env-file", "token"], 1, "--from-env-file: token, line 1: has no '='"),
        (["seal", "a/b", "--from-env-file", "nosuch"], 1, "--from-env-file: nosuch: No such file or directory"),
        (["seal", "a/b", "--from-file", "x=-", "--prompt", "x"], 2, "x: is given twice"),
        (["seal", "a/b", "--label", "x"], 2, "--label: found 'x'; allowed is KEY=VALUE"),
        (["seal", "--secrets", "-", "--prompt", "x"], 2, "--secrets has values of its own"),
        (["seal", "--secrets", "-"], 1, "--secrets: allowed is a list of Secrets"),
        (["read", "a"], 2, "SECRET: found 'a'; allowed is NAMESPACE/NAME"),
        (["exec", "--secret", "a/b", "--"], 2, "Missing argument 'COMMAND...'"),
        (["read", "a/b", "--token-file", "nosuch"], 1, "no Vault token: nosuch: No such file or directory"),
        (["read", "a/b", "--auth-method", "approle"], 1, "auth method approle needs --role-id or --role-id-file"),
        (["read", "a/b", "--auth-method", "kubernetes"], 1, "auth method kubernetes needs --role"),
        (["read", "a/b", "--kubeconfig", "nosuch"], 1, "--kubeconfig: nosuch: No such file or directory"),
        (["read", "a/b", "--vault-url", ""], 2, "--vault-url, or $VAULT_ADDR, is missing"),
        (["seal", "a/b", "--token", "x"], 2, "No such option"),
        (["seal", "a/b", "--from-file", "x=empty", "--transit-key", "k"], 1, "set --allow-empty if it is meant"),
        (["seal", "--secrets", "nosuch"], 1, "--secrets: nosuch: No such file or directory"),
        (["seal", "--secrets", "one"], 1, "--secrets: one, entry 1: n/a: --transit-key is missing"),
        (["seal", "--secrets", "two"], 1, "--secrets: two, entry 2: n: name is missing"),
        (["exec"], 2, "Missing '--secret', 'COMMAND...'."),
        (["files"], 2, "Missing '--secret', '--to'."),
        (["rotate", "--transit-key", "k", "--older-than", "30"], 2, "--older-than: found '30'"),
        (["rewrap", "--transit-key", "k", "--shard", "3/2"], 2, "--shard: found '3/2'"),
        (["retire", "--transit-key", "k", "--manifest", "nosuch"], 1, "--manifest: nosuch: No such file or directory"),
    ],
)
def test_bad_arguments(kubevault: Kubevault, tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    entry = "- {namespace: n, name: a, data: {a: x}}\n"
    for name, text in {"empty": "", "one": entry, "two": f"{entry}- {{namespace: n, data: {{a: x}}}}\n"}.items():
        (tmp_path / name).write_text(text)
    assert message.encode() in kubevault(*arguments, status=status).stderr


def test_help_shows_every_option(kubevault: Kubevault) -> None:
    for command in ("seal", "info", "read", "exec"):
        shown: Any = kubevault(command, "--help").stdout
        for option in (b"--vault-url", b"--vault-ca-cert", b"--auth-method", b"--kubeconfig", b"--context", b"--host"):
            assert option in shown
