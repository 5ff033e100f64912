"""A Vault server and a namespace of the lab's Kubernetes for the tests of sealing: `source .lab/env` first."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import own_namespace
from support.sealing import SEALER, Chain, environment
from support.servers import PrivateVault, running


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Keys "derived", "plain", "other" (derived) and their digest keys, and a token that may seal with them."""
    vault = PrivateVault(tmp_path_factory.mktemp("vault"))
    with running(vault, vault.set_up), own_namespace("sealing") as cluster:
        vault.write("sys/mounts/transit", type="transit")
        for key, derived in (("derived", True), ("plain", False), ("other", True)):
            vault.new_key(key, derived=derived)
        token = Chain(vault, cluster, "").token_for(SEALER)
        yield Chain(vault, cluster, token)


@pytest.fixture
def name() -> str:
    return f"secret-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def env(chain: Chain, tmp_path: Path) -> dict[str, str]:
    """An environment without settings of Ansible, in which the tools reach both servers with the sealer's token."""
    token_file = tmp_path / "token"
    token_file.write_text(f"{chain.token}\n")
    return environment(chain, token_file)
