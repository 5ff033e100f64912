"""Secrets from files and from the environment, for work without Kubernetes and Vault."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, SecretFileError, SecretFormatError, SecretKeyNotFound, quoted

log = logging.getLogger(__name__)

_TOO_OPEN = stat.S_IWGRP | stat.S_IRWXO


def read_file(file_name: str, file_type: str = "JSON") -> dict[str, Any]:
    """Read a file of secrets.

    Args:
        file_name: path of a file that belongs to this user or to root, that others cannot read, and nobody
            else can write: mode 0600, or 0440 as Kubernetes mounts it with an fsGroup.
        file_type: "JSON" or "YAML".

    Raises:
        SecretFileError: the file is missing, not readable, or open to others.
        SecretFormatError: it is not a JSON or YAML object.
        ConfigError: another ``file_type``.
    """
    return _parsed(_private_text(file_name), file_name, file_type, "file_type")


def read_environment(
    env_def_file: str | Mapping[str, str], env_file: str | None = None, definition_type: str = "JSON"
) -> dict[str, Any]:
    """Read secrets from environment variables.

    Args:
        env_def_file: which variable holds which secret: a mapping ``{NAME: VARIABLE}``, or the path of a file with it.
        env_file: path of a file with lines ``VARIABLE=VALUE``, which are used for variables that are not set. Its owner
            and mode must be those that `read_file` requires. Needs the package python-dotenv (extra
            ``kubevault[pydantic]``).
        definition_type: "JSON" or "YAML", of the definition's file.

    Raises:
        SecretKeyNotFound: a variable is not set.
        SecretFileError: a file is missing or not readable, or ``env_file`` is open to others.
        SecretFormatError: the definition is not an object of texts.
        ConfigError: another ``definition_type``, or python-dotenv is missing.
    """
    definition = env_def_file
    place = "definition"
    if isinstance(definition, str):
        place = definition
        definition = _parsed(_text(definition), definition, definition_type, "definition_type")
    if not all(isinstance(variable, str) for variable in definition.values()):
        raise SecretFormatError("not every value is the name of a variable", place=place)
    environment = {**_dotenv(env_file), **os.environ} if env_file else os.environ
    secrets = {}
    for name, variable in definition.items():
        if variable not in environment:
            raise SecretKeyNotFound(f"the environment variable for {name} is not set", place=variable, remedy="set it")
        secrets[name] = environment[variable]
    log.debug("read %d variables of the environment", len(secrets))
    return secrets


def read_object(path: str) -> dict[str, Any]:
    """Read a file that holds no secret, such as a ConfigMap mounts: YAML if its name ends in .yaml or .yml, else JSON.

    Raises:
        SecretFileError: the file is missing or not readable.
        SecretFormatError: it is not a JSON or YAML object.
    """
    kind = "YAML" if path.endswith((".yaml", ".yml")) else "JSON"
    return _parsed(_text(path), path, kind, "")


def _dotenv(path: str) -> dict[str, str]:
    try:
        from dotenv import dotenv_values
    except ImportError as error:
        raise ConfigError("env_file: needs the package python-dotenv; install kubevault[pydantic]") from error
    import io

    values = dotenv_values(stream=io.StringIO(_private_text(path)), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}


def _parsed(text: str, place: str, kind: str, option: str) -> dict[str, Any]:
    if kind not in ("JSON", "YAML"):
        raise ConfigError(f"{option}: found {quoted(kind)}; allowed are JSON, YAML")
    return load_json(text, place) if kind == "JSON" else _load_yaml(text, place)


def load_json(text: str, place: object = None) -> dict[str, Any]:
    """Return the JSON object in a text.

    Args:
        text: the text.
        place: where it is from, for errors; its ``str`` is shown.

    Raises:
        SecretFormatError: the text is not JSON, or not an object.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        problem = f"it is not JSON: {getattr(error, 'msg', 'it cannot be read')}" + (f" in line {line}" if line else "")
    else:
        return _object(parsed, place, "JSON")
    # Here, outside of "except": the original holds the text, and an exception keeps what it was raised in.
    raise SecretFormatError(problem, place=_said(place), remedy="put a JSON object there")


def _load_yaml(text: str, place: str) -> dict[str, Any]:
    from .. import safeyaml  # here, because few need it

    try:
        parsed = safeyaml.load(text)
    except safeyaml.NotYaml as error:
        problem = f"it {error}" + (f", by line {error.line}" if error.line else "")
    else:
        return _object(parsed, place, "YAML")
    raise SecretFormatError(problem, place=place, remedy="put a YAML mapping there")


def _object(parsed: Any, place: object, kind: str) -> dict[str, Any]:
    if not isinstance(parsed, dict):
        raise SecretFormatError(
            f"it is {kind}, but holds a {type(parsed).__name__}",
            place=_said(place),
            remedy=f"put a {kind} object there",
        )
    return parsed


def _said(place: object) -> str | None:
    return None if place is None else str(place)


def _text(path: str) -> str:
    with _opened(path) as file:
        return _decoded(file.read(), path)


def _private_text(path: str) -> str:
    with _opened(path) as file:
        # Of the open file, so that exactly this file is checked and read.
        status = os.fstat(file.fileno())
        if status.st_mode & _TOO_OPEN or status.st_uid not in (os.geteuid(), 0):
            raise SecretFileError(
                f"its mode is {stat.S_IMODE(status.st_mode):04o} and its owner {status.st_uid}, so others may read or"
                " write it",
                reason="open to others",
                place=path,
                remedy="chmod 600 it, and own it",
            )
        log.debug("reading the file %s", path)
        return _decoded(file.read(), path)


def _opened(path: str) -> Any:
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise SecretFileError(
            getattr(error, "strerror", None) or "it is no path",
            reason="missing" if missing else "not readable",
            place=path,
            remedy="check its path" if missing else "check its type, mode and owner",
        ) from error


def _decoded(content: bytes, path: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass
    raise SecretFormatError("it is not valid UTF-8", place=path)
