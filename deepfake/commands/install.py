"""``deepfake models install``: a bundle from a folder, an archive or a URL."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import ModelError, SettingsError
from .bars import show_steps

if TYPE_CHECKING:
    from rich.console import Console

    from ..settings import Settings


def install_bundle(options: argparse.Namespace, settings: Settings, console: Console) -> int:
    """Install it, with a bar on standard error, and say whether it answers."""
    from ..text import printable
    from ..trust.install import install
    from ..trust.registry import LIST, read_bundles

    if options.name is None:
        raise SettingsError(
            "models install: needs a file, a folder or a URL",
            hint="for example: deepfake models install image-3-large.zip",
        )
    with show_steps(in_bytes=True) as advance:
        bundle = install(options.name, sha256=options.sha256, settings=settings, advance=advance)
    console.out(f"installed {bundle.name} ({bundle.size_bytes / 1e6:.1f} MB) in {bundle.folder}")
    try:
        active = bundle.name in {one.name for one in read_bundles(options.models).values()}
    except ModelError as error:
        console.out(f"warning: {printable(str(error), most=600)}")
        return 1
    if active:
        console.out(f"it answers: {LIST} of {options.models} names it")
    else:
        console.out(
            f"it does not answer yet; to have that, run: deepfake models activate {bundle.name} "
            f"--models {options.models}"
        )
    return 0
