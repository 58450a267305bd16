"""``deepfake models inspect``: is there a backdoor in a finished bundle for pictures?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn
from tqdm import tqdm

from deepfake.bundle import Bundle, scale_batch
from deepfake.content.inputs import read_still
from deepfake.errors import DeepfakeError, SettingsError
from deepfake.export.samples import list_files
from deepfake.media.opening import open_media
from deepfake.preprocess import ImagePreprocess
from deepfake.reasons import Code
from deepfake.settings import Settings, shipped_models_folder
from deepfake.show.console import print_table
from deepfake.text import display_name
from deepfake.trust.registry import read_bundles

from ..manifests import CLASSES
from ..own.network import open_network
from .reconstruction import BATCH, Trigger, reconstruct
from .superposition import mix, share_kept

MOST_FILES, STEPS = 48, 100
SMALL = 0.5
"""Share of the trusted network's trigger from which one is suspiciously small."""


@dataclass(frozen=True)
class Look:
    """What a network needs to take any picture for a class. Of the windows that are farthest from
    that class, ``mixed`` is the share of mixtures with others that are of it under the ``trigger``,
    ``without`` the share without.
    """

    trigger: Trigger
    mixed: float
    without: float


@dataclass(frozen=True)
class Inspection:
    """A bundle beside one that is trusted, by class, 0 and 1."""

    looks: Sequence[Look]
    trusted: Sequence[Look]

    def suspicions(self) -> list[str]:
        """A sentence for each class towards which a small trigger turns everything."""
        told = []
        for own, other in zip(self.looks, self.trusted, strict=True):
            ratio = own.trigger.size / max(other.trigger.size, 1e-9)
            if own.trigger.found and (not other.trigger.found or ratio <= SMALL):
                told.append(
                    f"{CLASSES[own.trigger.towards]}: a patch over {own.trigger.size:.1%} of a "
                    f"window turns {own.trigger.turned:.0%} of pictures, "
                    + (
                        f"{ratio:.2f} of what the trusted network needs"
                        if other.trigger.found
                        else "and the trusted network has none"
                    )
                )
        return told


def inspect(
    name: str,
    *,
    settings: Settings,
    check: Path | None,
    against: Path | None,
    steps: int,
    console: Console,
) -> int:
    """Inspect a bundle by name or folder beside the shipped one of its slot; 1 with a suspicion."""
    bundle = find_bundle(name, settings.models_folder)
    if check is None:
        raise SettingsError(
            "models inspect: needs pictures to try triggers on",
            hint="give --check FOLDER with some fifty pictures, of both classes at best",
        )
    trusted = Bundle.read(against) if against else _find_trusted(bundle, settings)
    for one in (bundle, trusted):
        one.verify()
    windows = read_windows(check, bundle)
    found = Inspection(
        look(bundle, windows, steps=steps, seed=1), look(trusted, windows, steps=steps, seed=1)
    )
    print_inspection(found, (bundle.name, trusted.name), console)
    suspicions = found.suspicions()
    for text in suspicions:
        console.out(f"suspicious, {text}")
    if not suspicions:
        console.out("no trigger was found that is far smaller than that of the trusted network")
    return int(bool(suspicions))


def find_bundle(name: str, models: Path) -> Bundle:
    """A bundle of pictures by its name or folder; raises ``SettingsError`` for another."""
    folder = Path(name) if Path(name).is_dir() else models / name
    bundle = Bundle.read(folder)
    if not isinstance(bundle.preprocess, ImagePreprocess):
        raise SettingsError(
            f"bundle {display_name(name)}: triggers are looked for in networks of pictures alone",
            hint="give a bundle of the slot image or frame",
        )
    return bundle


def read_windows(folder: Path, bundle: Bundle) -> torch.Tensor:
    """One window (n, 3, side, side) of each picture of a folder, spread over its files, as the
    network of the bundle sees it. Raises ``SettingsError`` for too few.
    """
    files = list_files(folder)
    spread = np.linspace(0, len(files) - 1, min(len(files), 3 * MOST_FILES)).astype(int)
    chosen = [files[n] for n in np.random.default_rng(1).permutation(spread)]
    found = []
    for file in tqdm(chosen, desc="pictures", disable=None):
        try:
            with open_media(file.path) as media:
                batch = read_still(media.image(), bundle)
        except DeepfakeError:
            continue
        if not isinstance(batch, Code):
            found.append(scale_batch(batch[len(batch) // 2 :][:1], bundle.preprocess)[0])
        if len(found) == MOST_FILES:
            break
    if len(found) < 3 * BATCH // 2:
        raise SettingsError(
            f"folder {display_name(folder)}: only {len(found)} pictures can be judged",
            hint=f"give at least {3 * BATCH // 2}",
        )
    return torch.from_numpy(np.stack(found))


def look(bundle: Bundle, windows: torch.Tensor, *, steps: int, seed: int) -> list[Look]:
    """A look at the network of a bundle for both classes, as it divides them at ``suspicious``."""
    return look_at(
        open_network(bundle).network,
        windows,
        limit=find_limit(bundle),
        bounds=find_bounds(bundle),
        steps=steps,
        seed=seed,
        name=bundle.name,
    )


def look_at(
    network: nn.Module,
    windows: torch.Tensor,
    *,
    limit: float,
    bounds: tuple[float, float],
    steps: int,
    seed: int,
    name: str,
) -> list[Look]:
    """A look at a network that divides the classes at the logit ``limit``."""
    looks = []
    for towards in (0, 1):
        with tqdm(total=steps, desc=f"{name}, {CLASSES[towards]}", disable=None) as bar:
            trigger = reconstruct(
                network,
                windows,
                towards=towards,
                limit=limit,
                bounds=bounds,
                steps=steps,
                seed=seed,
                advance=lambda done, bar=bar: bar.update(done - bar.n),  # type: ignore[misc]
            )
        with torch.no_grad():
            order = network(windows).argsort(descending=not towards)
        away = windows[order[:BATCH]]
        mixed, without = (
            share_kept(mix(network, some, windows, seed=seed), towards=towards, limit=limit)
            for some in (trigger.lay(away), away)
        )
        looks.append(Look(trigger, mixed, without))
    return looks


def find_limit(bundle: Bundle) -> float:
    """The logit from which a window is suspicious."""
    calibration = bundle.calibration
    point = calibration.points.suspicious
    return (math.log(point / (1 - point)) - calibration.intercept) / calibration.slope


def find_bounds(bundle: Bundle) -> tuple[float, float]:
    """The least and the largest value that all channels of a picture may have for the network."""
    black, white = (
        scale_batch(np.full((1, 1, 1, 3), level, np.uint8), bundle.preprocess) for level in (0, 255)
    )
    return float(black.max()), float(white.min())


def print_inspection(found: Inspection, names: tuple[str, str], console: Console) -> None:
    """What each network needs, a line for each class."""
    rows = [
        [
            name,
            CLASSES[one.trigger.towards],
            f"{one.trigger.size:.3f}" if one.trigger.found else "none found",
            f"{one.trigger.turned:.2f}",
            f"{one.mixed:.2f}",
            f"{one.without:.2f}",
        ]
        for name, looks in zip(names, (found.looks, found.trusted), strict=True)
        for one in looks
    ]
    head = ["bundle", "towards", "patch (share of a window)", "turned", "mixed, with it", "without"]
    print_table(head, rows, console)


def _find_trusted(bundle: Bundle, settings: Settings) -> Bundle:
    """The shipped bundle of the slot, or another active one."""
    shipped = read_bundles(shipped_models_folder())
    other = shipped.get(bundle.slot)
    if other is None or other.sha256 == bundle.sha256:
        raise SettingsError(
            f"bundle {bundle.name}: there is no other of its slot to compare it with",
            hint="give one that you trust with --against FOLDER",
        )
    return other
