"""A source for pydantic-settings: ``class Settings(BaseSettings)`` reads its fields from a secret.

Needs the extra ``kubevault[pydantic]``.
Source: https://docs.pydantic.dev/latest/concepts/pydantic_settings/#customise-settings-sources
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .errors import ConfigError, frameless
from .manager import SecretManager

try:
    from pydantic import AliasChoices, AliasPath
    from pydantic_settings import BaseSettings, InitSettingsSource
except ImportError as error:
    raise ConfigError("settings need the package pydantic-settings; install kubevault[pydantic]") from error


def _names_of(alias: str | AliasPath | AliasChoices | None) -> Iterator[str]:
    """Yield the keys of the secret that an alias reads: of a path its first part, whose value holds the others."""
    match alias:
        case str():
            yield alias
        case AliasPath(path=[str(name), *_]):
            yield name
        case AliasChoices(choices=choices):
            for choice in choices:
                yield from _names_of(choice)


@frameless
class SecretManagerSettingsSource(InitSettingsSource):
    """Gives the fields of a settings class from one secret; keys that are not fields are left out.

    A field reads the key of its name, or of its alias: a text, an ``AliasChoices`` or an ``AliasPath``.

    Args:
        settings_cls: the settings class. Its configuration has to have ``hide_input_in_errors``: else pydantic
            shows values of the secret in its errors.
        manager: a manager, which stays open, or a manager's configuration, for this one read.
        args: what to read, as `manager.SecretManager.read_secrets` takes it.
        options: the same by name.

    Raises:
        ConfigError: the class lacks ``hide_input_in_errors``, or the configuration is wrong.
        SecretManagerError: as `manager.SecretManager.read_secrets`.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], manager: SecretManager | Mapping[str, Any], *args: Any, **options: Any
    ) -> None:
        if not settings_cls.model_config.get("hide_input_in_errors"):
            raise ConfigError(
                f"{settings_cls.__name__}.model_config: hide_input_in_errors is not set, so errors would show values;"
                " set it: SettingsConfigDict(hide_input_in_errors=True)"
            )
        if isinstance(manager, SecretManager):
            secrets = manager.read_secrets(*args, **options)
        else:
            with SecretManager(manager) as own_manager:
                secrets = own_manager.read_secrets(*args, **options)
        accepted_names = {
            name
            for field_name, field in settings_cls.model_fields.items()
            for name in (field_name, *_names_of(field.alias), *_names_of(field.validation_alias))
        }
        super().__init__(settings_cls, {key: value for key, value in secrets.items() if key in accepted_names})

    def __repr__(self) -> str:
        """Name it without a value."""
        return f"{type(self).__name__}({self.settings_cls.__name__})"
