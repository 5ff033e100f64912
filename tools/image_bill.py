"""The image's software bill of materials, by CycloneDX."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from debian import Package
from packageurl import PackageURL
from packaging.utils import canonicalize_name
from reproducible import Entry, File


def bill(
    version: str, created: datetime, packages: Iterable[Package], metadata: Iterable[Entry], go_version: str
) -> str:
    """Return the bill of materials as JSON; the same content gives the same text.

    Args:
        version: version of the image.
        created: time of the image.
        packages: Debian's packages.
        metadata: the file METADATA of each Python package.
        go_version: version of Go that built kubevault-exec.
    """
    image = Component(name="kubevault", version=version, type=ComponentType.CONTAINER, bom_ref="image")
    parts = [
        *(_debian(package) for package in packages),
        *(_python(item) for item in metadata if isinstance(item, File)),
        *_go(version, go_version),
    ]
    bom = Bom(
        components=parts, serial_number=uuid.uuid5(uuid.NAMESPACE_URL, " ".join(str(part.purl) for part in parts))
    )
    bom.metadata.component = image
    bom.metadata.timestamp = created
    bom.register_dependency(image, parts)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _component(name: str, purl: PackageURL, kind: ComponentType = ComponentType.LIBRARY) -> Component:
    return Component(name=name, version=purl.version, type=kind, purl=purl, bom_ref=str(purl))


def _debian(package: Package) -> Component:
    qualifiers = {"arch": package.architecture, "distro": "debian"}
    return _component(package.name, PackageURL("deb", "debian", package.name, package.version, qualifiers))


def _python(metadata: File) -> Component:
    header = metadata.content.decode().partition("\n\n")[0]
    fields = dict(re.findall(r"(?m)^(Name|Version): (.+)$", header))
    name = canonicalize_name(fields["Name"])
    return _component(name, PackageURL("pypi", None, name, fields["Version"]))


def _go(version: str, go_version: str) -> Iterator[Component]:
    """Yield the program, and Go's own library, which is all that it holds."""
    yield _component("kubevault-exec", PackageURL("golang", None, "kubevault-exec", version), ComponentType.APPLICATION)
    yield _component("stdlib", PackageURL("golang", None, "stdlib", go_version))
