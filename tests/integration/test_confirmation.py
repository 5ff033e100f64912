"""The questions of playbooks that overwrite or remove something, at a terminal and without one.

The only host of the inventory cannot be reached, so whatever is answered, nothing is changed.
"""

from __future__ import annotations

import errno
import os
import pty
import subprocess
from pathlib import Path
from threading import Timer

import pytest
import yaml
from support.ansible import BIN, ROOT, ansible_environment, environment, run_playbook

PATIENCE = 60.0
"""Seconds that a playbook may take."""

WORDS = {
    "restore": "The snapshot overwrites all that Vault holds on the hosts of the group vault.",
    "remove": "Removes Vault, MicroK8s and what was set up in them, and keeps data and keys.",
    "remove data": (
        "Removes Vault, MicroK8s and what was set up in them, AND DELETES ALL DATA AND KEYS:"
        " what is sealed can never be read again."
    ),
}
COMMANDS = {
    "restore": ["playbooks/restore.yml", "-e", "vault_server_snapshot=/nonexistent"],
    "remove": ["playbooks/remove.yml"],
    "remove data": ["playbooks/remove.yml", "-e", "kubevault_remove_data=true"],
}
NEXT = {
    "restore": "PLAY [Restore Vault]",
    "remove": "PLAY [Vault]",
    "remove data": "PLAY [Vault]",
}
"""The play after the question, whose first task meets the host."""

questions = pytest.mark.parametrize("question", WORDS)


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """An inventory with a Vault host that nobody reaches: nothing listens on port 1."""
    host = {"ansible_host": "127.0.0.1", "ansible_port": 1, "kubevault_remove_data": True}
    file = tmp_path / "hosts.yml"
    file.write_text(yaml.safe_dump({"vault": {"hosts": {"vault.example.org": host}}}))
    return file


def start(inventory: Path, question: str, stdin: int, output: int) -> subprocess.Popen[bytes]:
    command = [BIN / "ansible-playbook", f"--inventory={inventory}", *COMMANDS[question]]
    env = {**ansible_environment(), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=stdin, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )


def at_a_terminal(inventory: Path, question: str, answer: str) -> tuple[int, str]:
    """Run a playbook, and type the answer once it asks; return its exit status, and what the terminal showed."""
    ours, its = pty.openpty()
    process = start(inventory, question, its, its)
    os.close(its)
    timer = Timer(PATIENCE, process.kill)
    timer.start()
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
            if shown.endswith(b"Type yes to go on: "):
                os.write(ours, f"{answer}\n".encode())
    except OSError as error:
        if error.errno != errno.EIO:  # the terminal was closed, as the process has ended
            raise
    finally:
        timer.cancel()
        process.kill()
        status = process.wait()
        os.close(ours)
    return status, shown.decode().replace("\r\n", "\n")


# "remove data" is the question of "remove" in other words.
@pytest.mark.parametrize(
    ("question", "answer"), [*((question, "no") for question in WORDS), ("restore", ""), ("remove", "")]
)
def test_unless_the_answer_is_yes_no_host_is_contacted(inventory: Path, question: str, answer: str) -> None:
    status, shown = at_a_terminal(inventory, question, answer)
    assert f"\n{WORDS[question]} Type yes to go on: {answer}\n" in f"\n{shown}", shown
    assert "Nothing was changed. Type yes, or give" in shown
    assert (status, "UNREACHABLE" in shown, "unreachable=0" in shown) == (2, False, True), shown


@questions
def test_yes_goes_on(inventory: Path, question: str) -> None:
    status, shown = at_a_terminal(inventory, question, "yes")
    assert f"\n{WORDS[question]} Type yes to go on: yes\n" in f"\n{shown}", shown
    asked, _, further = shown.partition(NEXT[question])
    assert "Nothing was changed" not in asked
    assert "UNREACHABLE" not in asked
    assert "UNREACHABLE" in further
    assert status == 4, shown


@questions
def test_without_a_terminal_no_host_is_contacted(inventory: Path, question: str) -> None:
    with start(inventory, question, subprocess.DEVNULL, subprocess.PIPE) as process:
        shown = process.communicate(timeout=PATIENCE)[0].decode()
    assert "Nothing was changed. Type yes, or give" in shown
    assert (process.returncode, "UNREACHABLE" in shown) == (2, False), shown


def test_data_that_the_inventory_says_to_delete_stays_as_the_question_says(inventory: Path, tmp_path: Path) -> None:
    check = {"ansible.builtin.assert": {"that": "kubevault_removes_data == (expected | bool)"}}
    files = [str(ROOT / "playbooks/vars/removal.yml")]
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(
        yaml.safe_dump([{"hosts": "vault", "gather_facts": False, "vars_files": files, "tasks": [check]}])
    )
    for given in (["-e", "expected=false"], ["-e", "expected=true", "-e", "kubevault_remove_data=true"]):
        run_playbook(playbook, f"--inventory={inventory}", *given, env=environment())
