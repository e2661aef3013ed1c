"""From the images of a command line to all files that QEMU will open for them, under this launcher's rules.

Where a command line declares no format, QEMU guesses from bytes that a guest may have written. The guess is harmless
as long as it leads to no other file, so such an image is let through with a warning; one whose guessed format names
further files is refused unless the user allows it (CVE-2010-2237, CVE-2011-2178).
"""

from __future__ import annotations

import os

from septum.errors import ImageError, SeptumError
from septum.guests import parse
from septum.guests.images import Finding, Named, chain
from septum.guests.resource import Resource
from septum.launch.plan import Problems, Request
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def chains(resources: Sequence[Resource], request: Request, problems: Problems) -> tuple[list[Resource], list[str]]:
    """Adds the members of all image chains.

    Args:
        resources: of the command line.
        request: says what is allowed by name.
        problems: takes refusals instead of raising the first.

    Returns:
        All resources, and warnings.

    Raises:
        ImageError: a chain can't be known, or leads where it may not.
    """
    images = [resource for resource in resources if resource.kind in ("image", "backing") and not resource.creates]
    folders = {os.path.dirname(os.path.realpath(image.path)) for image in images}
    folders |= {os.path.dirname(image.path) for image in images}
    allowed = sorted(folders) + sorted(request.allowed.paths)
    found = list(resources)
    warnings: list[str] = []
    for image in images:
        if not os.path.exists(image.path):
            continue
        try:
            members = chain(
                image.path,
                image.format,
                image.access,
                sharing=image.sharing,
                parse_filename=_named,
                allowed=allowed,
                overridden=image.overrides,
                allow_probe=True,
                cwd=os.getcwd(),
            )
            for finding in members.findings:
                _judge(finding, members.resources, request)
                warnings.append(finding.what)
            found.extend(members.resources)
        except SeptumError as error:
            if problems is None:
                raise
            problems.append(error)
    return found, warnings


def _named(name: str) -> list[Named]:
    """What a name with a protocol prefix in an image's header leads to: the same as it would as an option."""
    command = parse(("qemu", "-drive", f"if=none,readonly=on,file={name.replace(',', ',,')}"), cwd="/")
    if command.unknown:
        raise ImageError(
            f"an image's header names {name!r}, and what that leads to is not known",
            target=name,
            rule=command.unknown[0].why,
            remedy="give the overlay its real backing file with `qemu-img rebase -u`",
        )
    return [
        Named(resource.path, resource.format, "ro", "peer-socket" if resource.kind == "peer-socket" else "backing")
        for resource in command.resources
    ]


def _judge(finding: Finding, members: Sequence[Resource], request: Request) -> None:
    if finding.code != "unsafe-probe" or request.allow_probe:
        return
    below = [member for member in members if member.option.endswith(f" of {finding.path}")]
    if below:
        raise ImageError(
            f"{finding.path} declares no format, and guessed as {finding.format} it leads to {below[0].path}",
            target=finding.path,
            rule="a guessed format may come from the guest itself (CVE-2011-2178)",
            remedy=f"declare it: format={finding.format}, or if that is meant: --allow-probe",
        )
