"""Keep the byte code of what Ansible's modules import.

Ansible sends a module as an archive of sources, with all that it imports. For each task Python compiles them anew, and
twice, since zipimport learns a file's name by compiling it: a third of the task's CPU time. Where this file is in
PYTHONPATH, as in `make test`, or on a host for tests, each source is compiled once. What runs is what Ansible sent: the
byte code is found by a hash of the source.
"""

# Every process of Python imports this, and pathlib would take longer than all of it.
# ruff: noqa: PTH103, PTH105, PTH118, PTH120, PTH123
from __future__ import annotations

import marshal
import os
import sys
import zipimport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

FOLDER = os.path.join(os.path.dirname(__file__), "__pycache__")
"""Holds HASH.TAG, the code of a source, for a version of Python."""


class ModuleArchive(zipimport.zipimporter):
    """Imports from an archive of Ansible's; other archives are left to zipimport.

    Raises:
        zipimport.ZipImportError: the path is no such archive.
    """

    def __init__(self, path: str) -> None:
        # Of packages in it, the path goes on.
        if "_payload.zip" not in path:
            raise zipimport.ZipImportError(f"not an archive of Ansible's: {path!r}", path=path)
        super().__init__(path)

    def get_filename(self, fullname: str) -> str:
        """Return the path of a module's source."""
        end = "/__init__.py" if self.is_package(fullname) else ".py"
        return f"{self.archive}/{self.prefix}{fullname.rpartition('.')[2]}{end}"

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of a module."""
        # Here, since every process imports this file, and few get as far as this.
        from importlib.util import source_hash

        path = self.get_filename(fullname)
        source = self.get_data(path)
        cache_path = f"{FOLDER}/{source_hash(source).hex()}.{sys.implementation.cache_tag}"
        code: CodeType
        try:
            with open(cache_path, "rb") as cache:
                code = marshal.load(cache)  # noqa: S302 - as Python does with its own cache
        except OSError:
            code = compile(source, path, "exec", dont_inherit=True)
            self._keep(code, cache_path)
        return code

    def _keep(self, code: CodeType, path: str) -> None:
        """Keep the code of a source; who may not write there compiles it the next time too."""
        try:
            os.makedirs(FOLDER, exist_ok=True)
            with open(f"{path}.{os.getpid()}", "wb") as file:
                marshal.dump(code, file)
            os.replace(file.name, path)
        except OSError:
            return


sys.path_hooks.insert(0, ModuleArchive)
