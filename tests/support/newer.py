"""A newer release of Vault than the lab's: a stand-in, the same program under another number.

To build another release takes ten minutes, and what an upgrade does with hosts and nodes is the same.
"""

from __future__ import annotations

from pathlib import Path

from kubevault_lab.binaries import Provider
from kubevault_lab.cache import target_platform
from kubevault_lab.hosts.mirror import Mirror
from kubevault_lab.hosts.sandbox import STATE


def publish(mirror: Path) -> str:
    """Publish it in the folder of the mirror that serves the lab's; return its version."""
    provider = Provider.from_environment()
    project = provider.programs["vault"]
    version = project.version(provider.tools)
    minor, _, patch = version.rpartition(".")
    # As long as the other, because it replaces that in the program.
    newer = f"{minor}.{(int(patch) + 1) % 10 ** len(patch)}"
    program = mirror.parent / f"vault-{newer}"
    program.write_bytes(provider.provide(["vault"])["vault"].read_bytes().replace(version.encode(), newer.encode()))
    program.chmod(0o755)
    Mirror(mirror, STATE / "signer").publish(project.release("vault", newer, *target_platform()), program)
    program.unlink()
    return newer
