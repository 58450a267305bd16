"""The runtimes that execute a bundle: torch, OpenVINO and ONNX Runtime behind one protocol.

Each maps a float32 batch (windows, …) to float32 logits (windows,) and computes in fp32 on a CPU.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .bundle import Bundle, Logits
from .errors import BackendError, MissingDependency, SettingsError
from .preprocess import Batch
from .settings import Settings


class Backend(Protocol):
    """One loaded bundle. ``run`` is called by one thread at a time."""

    name: str
    device: str

    def run(self, batch: Batch) -> Logits: ...

    def close(self) -> None: ...


class OnnxRuntimeBackend:
    """ONNX Runtime on the CPU: portable, the one for edge hardware."""

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, bundle: Bundle, *, settings: Settings) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        refusals = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                bundle.file_bytes("model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except (*refusals, state.NotImplemented, state.RuntimeException) as error:
            raise BackendError(f"bundle {bundle.name}: ONNX Runtime cannot load it") from error

    def run(self, batch: Batch) -> Logits:
        logits: Logits = self._session.run(["logits"], {"batch": batch})[0]
        return logits

    def close(self) -> None:
        del self._session


class OpenVinoBackend:
    """OpenVINO on the CPU, held at fp32: its default precision is bf16 where the CPU has it."""

    name = "openvino"
    device = "cpu"

    def __init__(self, bundle: Bundle, *, settings: Settings) -> None:
        import openvino

        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if settings.threads:
            config["INFERENCE_NUM_THREADS"] = settings.threads
        core = openvino.Core()
        try:
            model = core.read_model(bundle.file_bytes("model.onnx"), b"")
            compiled = core.compile_model(model, "CPU", config)
        except RuntimeError as error:
            raise BackendError(f"bundle {bundle.name}: OpenVINO cannot load it") from error
        self._request = compiled.create_infer_request()

    def run(self, batch: Batch) -> Logits:
        self._request.infer({0: batch}, share_inputs=True)
        logits: Logits = self._request.get_output_tensor(0).data.copy()
        return logits

    def close(self) -> None:
        del self._request


class TorchBackend:
    """PyTorch, for CUDA and for comparison; needs the ``train`` extra."""

    name = "torch"

    def __init__(self, bundle: Bundle, *, settings: Settings) -> None:
        import torch
        from safetensors.torch import load

        from . import networks

        self.device = torch_device(settings)
        network = networks.create(bundle.network, **bundle.network_options)
        network.load_state_dict(load(bundle.file_bytes("model.safetensors")))
        self._torch = torch
        self._network = network.float().eval().to(self.device)

    def run(self, batch: Batch) -> Logits:
        with self._torch.inference_mode():
            pinned = self._torch.from_numpy(batch)
            logits: Logits = self._network(pinned.to(self.device)).float().cpu().numpy()
        return logits

    def close(self) -> None:
        del self._network


_CLASSES: dict[str, type[Any]] = {
    "torch": TorchBackend,
    "openvino": OpenVinoBackend,
    "onnxruntime": OnnxRuntimeBackend,
}
_PACKAGES = {
    "torch": ("torch", "timm"),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
}


_CUDA_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


def installed_backends() -> tuple[str, ...]:
    """Names of the backends whose packages are installed, without importing them."""
    return tuple(
        name
        for name, packages in _PACKAGES.items()
        if all(_is_installed(package) for package in packages)
    )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # what a blocked or half-removed package gives
        return False


def choose_backend(settings: Settings) -> str:
    """The named backend, or for ``auto`` the fastest present.

    In order: torch when a CUDA device may be used, OpenVINO, ONNX Runtime, torch on the CPU
    (``python -m benchmarks.backends`` prints the times behind this order). Raises
    ``MissingDependency`` when the named one, or every one, is missing.
    """
    present = installed_backends()
    if settings.backend != "auto":
        if settings.backend not in present:
            raise MissingDependency(
                settings.backend, extra="train" if settings.backend == "torch" else "app"
            )
        if settings.device == "cuda" and settings.backend != "torch":
            raise SettingsError(
                f"device 'cuda': backend {settings.backend!r} runs on the CPU",
                hint="choose backend torch or auto",
            )
        return settings.backend
    if settings.device == "cuda" and "torch" not in present:
        raise MissingDependency("torch", extra="train")
    if settings.device != "cpu" and "torch" in present and torch_device(settings) != "cpu":
        return "torch"
    for name in ("openvino", "onnxruntime", "torch"):
        if name in present:
            return name
    raise MissingDependency("onnxruntime", extra="app")


def torch_device(settings: Settings) -> str:
    """``cuda`` or ``cpu``; raises ``SettingsError`` when CUDA is asked for and not there.

    ``auto`` imports torch (seconds) only where a driver shows that there may be a device.
    """
    if settings.device == "cpu":
        return "cpu"
    if settings.device == "auto" and not any(path.exists() for path in _CUDA_DRIVERS):
        return "cpu"
    import torch

    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise SettingsError("device 'cuda': torch finds none", hint="choose device auto or cpu")
    return "cuda" if available else "cpu"


def open_backend(bundle: Bundle, *, settings: Settings) -> Backend:
    """Load ``bundle`` into the chosen backend, after checking its files."""
    backend: Backend = _CLASSES[choose_backend(settings)](bundle, settings=settings)
    return backend


def check_logits(bundle: Bundle, logits: Logits, *, windows: int) -> Logits:
    """The logits as finite floats (windows,), or (windows, places, values) for a face finder;
    raises ``BackendError`` for anything else.
    """
    array = np.asarray(logits, dtype=np.float32)
    array = array if bundle.slot == "face-finder" else array.reshape(-1)
    if len(array) != windows or not np.isfinite(array).all():
        raise BackendError(
            f"bundle {bundle.name}: gave {len(array)} logits for {windows} windows or a NaN",
            hint="try another backend (deepfake doctor lists those installed)",
        )
    return array
