"""Credentials from the exec plugin of a kubeconfig's user, as clouds and single sign-on give them.

Sources: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins and
https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
"""

from __future__ import annotations

import json
import math
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .connection import readable
from .forking import renewed_in_children
from .http import credential, load_client_cert

API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
"""Versions of the interface that are spoken."""

INTERACTIVE_MODES = ("Never", "IfAvailable", "Always")
"""Whether a plugin may, or must, ask its user."""

_TIMEOUT = 60.0  # seconds for a plugin that cannot ask anybody
_OUTPUT = 1024 * 1024  # bytes; a token or a certificate and its key are far smaller


class ExecPlugin:
    """Runs the plugin when credentials are needed first, and again when they have ended."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        where: str,
        folder: Path,
        context: ssl.SSLContext,
        cluster: Mapping[str, Any] | None,
    ) -> None:
        """Check the plugin's description; nothing is run.

        Args:
            spec: the field ``exec`` of a kubeconfig's user; its fields have the right types.
            where: the kubeconfig and the field, for errors.
            folder: the kubeconfig's folder, to which a relative path of the program belongs.
            context: gets the client certificate, if the plugin gives one.
            cluster: what the plugin is told of the cluster; None for one without ``provideClusterInfo``.

        Raises:
            ConfigError: a field is missing, or not allowed; names it.
        """
        version = spec.get("apiVersion")
        if version not in API_VERSIONS:
            raise ConfigError(f"{where}: apiVersion {version!r} is not allowed; allowed are {', '.join(API_VERSIONS)}")
        command = spec.get("command")
        if not command:
            raise ConfigError(f"{where}: command is missing")
        # The default is v1beta1's; v1 wants it said.
        mode = spec.get("interactiveMode") or (INTERACTIVE_MODES[1] if version == API_VERSIONS[1] else None)
        if mode not in INTERACTIVE_MODES:
            raise ConfigError(
                f"{where}: interactiveMode {mode!r} is not allowed; allowed are {', '.join(INTERACTIVE_MODES)}"
            )
        if "/" in command:
            command = str(folder / command)
        self._command = [command, *(spec.get("args") or ())]
        self._environment = {item.get("name") or "": item.get("value") or "" for item in spec.get("env") or ()}
        if any(not name or "=" in name for name in self._environment):
            raise ConfigError(f"{where}: env: a name is missing, or holds an equals sign")
        self._hint = " ".join((spec.get("installHint") or "install the plugin").split())
        self._version, self._mode, self._where, self._context = version, mode, where, context
        self._spec = {} if cluster is None else {"cluster": cluster}
        try:
            json.dumps(self._spec)
        except (TypeError, ValueError, RecursionError):
            raise ConfigError(f"{where}: provideClusterInfo: the extension of the cluster cannot be JSON") from None
        self._authorization: str | None = None
        self._ends = -math.inf  # seconds since the epoch
        self._lock = threading.Lock()
        renewed_in_children(self)

    def _in_child(self) -> None:
        """As `forking.Shared._in_child`."""
        self._lock = threading.Lock()

    def __call__(self) -> str | None:
        """Return the header ``Authorization``; None if the plugin gives a client certificate alone.

        Raises:
            ConfigError: the plugin is missing, failed, or gave nothing that can be used.
        """
        with self._lock:
            if time.time() >= self._ends:
                self._authorization, self._ends = self._take(self._run())
            return self._authorization

    def _run(self) -> bytes:
        """Run the plugin; return its output, which is secret."""
        interactive = self._mode != "Never" and sys.stdin is not None and sys.stdin.isatty()
        if self._mode == "Always" and not interactive:
            raise ConfigError(f"{self._where}: the plugin must ask its user, and there is no terminal")
        spec = {"interactive": interactive, **self._spec}
        told = {"apiVersion": self._version, "kind": "ExecCredential", "spec": spec}
        try:
            with subprocess.Popen(  # noqa: S603 - the user's own kubeconfig names the program, as for kubectl
                self._command,
                env={**os.environ, **self._environment, "KUBERNETES_EXEC_INFO": json.dumps(told)},
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                # To a user it may speak; elsewhere it would end in a log, with what it holds.
                stderr=None if interactive else subprocess.DEVNULL,
            ) as process:
                try:
                    output = self._output(process, math.inf if interactive else time.monotonic() + _TIMEOUT)
                except BaseException:
                    process.kill()
                    raise
        except OSError as error:
            raise ConfigError(f"{self._where}: {self._command[0]}: {error.strerror}", remedy=self._hint) from error
        if process.returncode:
            raise ConfigError(
                f"{self._where}: {self._command[0]} ended with status {process.returncode}",
                remedy="`kubectl version` with this kubeconfig shows what it says",
            )
        return output

    def _output(self, process: subprocess.Popen[bytes], ends: float) -> bytes:
        """Return what a plugin writes until it ends.

        Args:
            process: the plugin.
            ends: when it has to have ended, by the monotonic clock.

        Raises:
            ConfigError: it did not end in time, or wrote too much.
        """
        assert process.stdout is not None  # noqa: S101 - for the type checker
        output = bytearray()
        while readable(process.stdout, _left(ends)):
            block = os.read(process.stdout.fileno(), 64 * 1024)
            output += block
            if len(output) > _OUTPUT:
                raise ConfigError(
                    f"{self._where}: {self._command[0]}: writes more than {_OUTPUT:,} bytes",
                    remedy="check that it is the program for this: a token is far smaller",
                )
            if not block:
                break
        try:
            process.wait(None if math.isinf(ends) else max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise ConfigError(
                f"{self._where}: {self._command[0]}: did not end within {_TIMEOUT:.0f} s",
                remedy="run it, and see what it waits for",
            ) from None
        return bytes(output)

    def _take(self, output: bytes) -> tuple[str | None, float]:
        """Take the credentials from a plugin's output; return the header and when they end."""
        where = f"{self._where}: the output of {self._command[0]}"
        try:
            found = json.loads(output)
            kind, version, status = found["kind"], found["apiVersion"], dict(found["status"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ConfigError(f"{where}: is not an ExecCredential with a status") from None
        if (kind, version) != ("ExecCredential", self._version):
            raise ConfigError(f"{where}: is not an ExecCredential of {self._version}")
        names = ("token", "clientCertificateData", "clientKeyData")
        token, cert, key = (str(status.get(name) or "") for name in names)
        if not token and not cert and not key:
            raise ConfigError(f"{where}: holds neither token nor clientCertificateData")
        ends = math.inf
        if text := status.get("expirationTimestamp"):
            try:
                ends = datetime.fromisoformat(text).timestamp()
            except (TypeError, ValueError, OverflowError):
                raise ConfigError(f"{where}: expirationTimestamp is not a time of RFC 3339") from None
        pems = cert.encode(errors="replace"), key.encode(errors="replace")
        load_client_cert(self._context, *pems, (f"{where}: {names[1]}", names[2]))
        return (f"Bearer {credential(token, f'{where}: token')}" if token else None), ends


def _left(ends: float) -> float | None:
    """Return the time that is left until then, in seconds; None for no end."""
    return None if math.isinf(ends) else max(0.0, ends - time.monotonic())
