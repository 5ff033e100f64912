"""A Vault server for the tests of the modules that administer Vault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.servers import PrivateVault, running


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateVault]:
    """A server for one test module, initialised and unsealed."""
    server = PrivateVault(tmp_path_factory.mktemp("vault"))
    with running(server, server.set_up):
        yield server
