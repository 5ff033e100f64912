"""Addresses of servers: by TLS, and without it for this machine's loopback alone, if that is wanted."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest

from secretmanager import ConfigError
from secretmanager.servers.connection import Address, is_loopback
from secretmanager.servers.http import tls_error
from secretmanager.servers.vault import VaultClient

HERE = ["http://127.0.0.1:8200", "http://127.8.9.1", "http://[::1]:8200/", "http://localhost:8200", "http://LOCALHOST."]
ELSEWHERE = [
    "http://192.0.2.1:8200",
    "http://vault.example.org:8200",
    "http://localhost.example.org",
    "http://0.0.0.0:8200",
    "http://[::]:8200",
    "http://127.0.0.1.example.org",
    "http://u:p@127.0.0.1:8200",
    "http://",
    "unix:///run/vault.sock",
]


@pytest.mark.parametrize("url", HERE)
def test_http_is_for_loopback_if_it_is_wanted(url: str) -> None:
    assert Address.parse(url, "vault_url", "plain", plain=True).plain
    with pytest.raises(
        ConfigError, match=r"^vault_url: found one with the scheme 'http'; .*, and with plain http:// for"
    ):
        Address.parse(url, "vault_url", "plain")
    with pytest.raises(ConfigError, match=r"allowed is an address such as https://HOST:PORT$"):
        Address.parse(url, "server")


@pytest.mark.parametrize("url", ELSEWHERE)
def test_http_is_refused_elsewhere(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^vault_url: found "):
        Address.parse(url, "vault_url", "plain", plain=True)


def test_https_stays_as_it_is() -> None:
    address = Address.parse("https://127.0.0.1/x/", "vault_url", "plain", plain=True)
    assert address == ("https://127.0.0.1/x", "127.0.0.1", 443, "/x", False)
    assert not is_loopback("::ffff:192.0.2.1")


def test_a_name_that_is_another_machine_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a name resolves to counts. Here a resolver says that localhost is this machine's other address."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        listener.settimeout(5)
        port = listener.getsockname()[1]
        own = _own_address()
        found = socket.getaddrinfo

        def resolve(host: Any, *others: Any, **options: Any) -> Any:
            return found(own if host == "localhost" else host, *others, **options)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        client = VaultClient(f"http://localhost:{port}", loopback_http=True, retries=0, token="hvs.PLAIN")
        with pytest.raises(ConfigError, match=f"^http://localhost:{port}: is not this machine"):
            client.request("GET", "sys/health")
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            assert connection.recv(100) == b""


def _own_address() -> str:
    """Return an address of this machine that is not one of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but those of loopback")
        return str(probe.getsockname()[0])


def test_a_ca_that_is_not_known_is_told_by_its_option() -> None:
    error = ssl.SSLCertVerificationError()
    error.reason, error.verify_code = "CERTIFICATE_VERIFY_FAILED", 20
    assert tls_error(error, "https://v:1", "vault_ca_cert").remedy == (
        "name the CA that signed it by vault_ca_cert, and check that this is the server you mean"
    )
    assert "by" not in str(tls_error(error, "https://v:1").remedy)
