"""``deepfake models keygen`` and ``sign``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from ..trust.keys import PrivatePair, PublicPair


def make_keys(options: argparse.Namespace, console: Console) -> int:
    """Make a pair of keys in a new place, and say what to do with its halves."""
    from ..trust.keys import make_pair

    if options.name is None:
        raise SettingsError(
            "models keygen: needs a folder", hint="for example: deepfake models keygen my-keys"
        )
    folder = Path(options.name)
    pair = make_pair(folder)
    print_pair(pair.public, console)
    console.out(
        f"{folder} holds them. Keep the private ones ({pair.name}.*.pem) to yourself and in a "
        "backup; give the .pub.pem files to those who are to trust what you sign (--trusted-keys)."
    )
    return 0


def sign(options: argparse.Namespace, console: Console) -> int:
    """Sign one bundle, with the pair of ``--keys`` or that of this user."""
    from ..bundle import Bundle
    from ..trust.registry import locate
    from ..trust.signatures import sign_bundle, sign_own

    if options.name is None:
        raise SettingsError(
            "models sign: needs a bundle", hint="its folder, or its name in the models folder"
        )
    there = Path(options.name)
    folder = there if there.is_dir() else locate(options.models, options.name)
    bundle = Bundle.read(folder)
    if options.keys is None:
        if options.recipe or options.commit:
            raise SettingsError(
                "models sign: --recipe and --commit are for those who sign with --keys"
            )
        public = sign_own(bundle)
    else:
        pair = read_keys(options.keys)
        sign_bundle(bundle, pair, recipe=options.recipe, commit=options.commit)
        public = pair.public
    console.out(f"signed {bundle.name} in {folder}")
    print_pair(public, console)
    return 0


def read_keys(folder: Path) -> PrivatePair:
    """The pair of private keys in a folder."""
    from ..trust.keys import read_private_pair

    return read_private_pair(folder)


def sign_made(folder: Path) -> None:
    """Sign what a command of the training package has written with the pair of this user."""
    from ..bundle import Bundle
    from ..settings import user_keys_folder
    from ..trust.signatures import sign_own

    pair = sign_own(Bundle.read(folder))
    print(
        f"signed with your key {pair.ids[0][:12]} ({user_keys_folder()}), trusted on this machine"
    )


def print_pair(pair: PublicPair, console: Console) -> None:
    """The ids by which signatures and lists of what is revoked name a pair."""
    from ..trust.keys import ALGORITHMS

    for algorithm, keyid in zip(ALGORITHMS, pair.ids, strict=True):
        console.out(f"{algorithm:<10} {keyid}")
