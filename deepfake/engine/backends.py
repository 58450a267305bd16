"""The runtimes that execute a bundle: torch, OpenVINO and ONNX Runtime behind one protocol.

Each maps a batch (windows, …) to float32 logits. Pixels come as they are, uint8, and are brought
to the network's range on the device that runs it, so that a quarter of the bytes moves. A CPU
computes in fp32; with precision ``auto``, where the processor has the instructions, in int8 if the
bundle ships a graph of that kind (its AUC was measured to be the same), and in bf16 if it is a full
tier of pictures, as in training. Spectra of sound would be rounded too coarsely.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..bundle import GRAPH, Bundle, Logits, scale_batch
from ..errors import BackendError, MissingDependency, SettingsError
from ..preprocess import Batch, PixelScale
from ..settings import Settings

INT8_GRAPH = "model.int8.onnx"


class Backend(Protocol):
    """One loaded bundle on one device. ``run`` is called by one thread at a time; it raises
    ``BackendError`` when the runtime fails.
    """

    name: str
    device: str
    precision: str

    def run(self, batch: Batch) -> Logits: ...

    def close(self) -> None: ...


class OnnxRuntimeBackend:
    """ONNX Runtime on the CPU: portable, the one for edge hardware."""

    name = "onnxruntime"
    device = "cpu"
    precision = "fp32"

    def __init__(self, bundle: Bundle, *, settings: Settings, device: str = "cpu") -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        refusals = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf)
        self._failures = (*refusals, state.NotImplemented, state.RuntimeException)
        self._bundle = bundle
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.log_severity_level = 3
        # Threads that spin between operators take the cores from decoders and other workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if name := bundle.weights_of(GRAPH):
            # Weights in int8 are widened once; else activations would be quantised to meet them.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
            content = bundle.file_bytes(name)
            options.add_external_initializers_from_files_in_memory(
                [name], [content], [len(content)]
            )
        try:
            self._session = onnxruntime.InferenceSession(
                bundle.file_bytes(GRAPH), options, providers=["CPUExecutionProvider"]
            )
        except self._failures as error:
            raise BackendError(f"bundle {bundle.name}: ONNX Runtime cannot load it") from error

    def run(self, batch: Batch) -> Logits:
        entering = scale_batch(batch, self._bundle.preprocess)
        try:
            logits: Logits = self._session.run(["logits"], {"batch": entering})[0]
        except self._failures as error:
            raise _failed(self._bundle, "ONNX Runtime", error) from error
        return logits

    def close(self) -> None:
        del self._session


class OpenVinoBackend:
    """OpenVINO on the CPU, told its precision: by default it takes bf16 where the CPU has it.

    The batch is handed over without a copy; scaling and layout are part of the compiled graph.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, bundle: Bundle, *, settings: Settings, device: str = "cpu") -> None:
        openvino = import_openvino()
        lower = settings.precision == "auto"
        quantised = lower and INT8_GRAPH in bundle.files and has_int8()
        large = bundle.weights_of(GRAPH) is not None and bundle.preprocess.scale is not None
        shortened = lower and large and has_bf16()
        self.precision = "int8" if quantised else "bf16" if shortened else "fp32"
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if shortened else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            # Workers of one thread each would all be pinned to the same core.
            "ENABLE_CPU_PINNING": False,
            # Else it may quantise activations where weights are in int8.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        if settings.threads:
            config["INFERENCE_NUM_THREADS"] = settings.threads
        self._bundle = bundle
        core = openvino.Core()
        try:
            model = _read_graph(core, bundle, INT8_GRAPH if quantised else GRAPH)
            if bundle.preprocess.scale is not None:
                model = _take_pixels(model, bundle.preprocess.scale)
            compiled = core.compile_model(model, "CPU", config)
        except RuntimeError as error:
            raise BackendError(f"bundle {bundle.name}: OpenVINO cannot load it") from error
        self._request = compiled.create_infer_request()

    def run(self, batch: Batch) -> Logits:
        try:
            self._request.infer({0: np.ascontiguousarray(batch)}, share_inputs=True)
        except RuntimeError as error:
            raise _failed(self._bundle, "OpenVINO", error) from error
        logits: Logits = self._request.get_output_tensor(0).data.copy()
        return logits

    def close(self) -> None:
        del self._request


def _read_graph(core: Any, bundle: Bundle, name: str) -> Any:
    """The verified graph. One whose weights lie in another file can only be read by its path: both
    files are compared right before that, and nothing of them stays mapped.
    """
    content = bundle.file_bytes(name)
    weights = bundle.weights_of(name)
    if weights is None:
        return core.read_model(content, b"")
    bundle.file_bytes(weights)
    core.set_property({"ENABLE_MMAP": False})
    return core.read_model(bundle.folder / name)


def _take_pixels(model: Any, scale: PixelScale) -> Any:
    """The graph with uint8 (windows, …, height, width, 3) as its input."""
    openvino = import_openvino()
    rank = len(model.input(0).partial_shape)
    before, after = ("NHWC", "NCHW") if rank == 4 else ("NDHWC", "NDCHW")
    steps = openvino.preprocess.PrePostProcessor(model)
    entering = steps.input(0)
    entering.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout(before))
    entering.model().set_layout(openvino.Layout(after))
    entering.preprocess().convert_element_type(openvino.Type.f32)
    entering.preprocess().mean([255 * value for value in scale.mean])
    entering.preprocess().scale([255 * value for value in scale.std])
    return steps.build()


@functools.cache
def import_openvino() -> Any:
    """OpenVINO without its model converter, which takes longer to load than all the rest and brings
    a telemetry client; ``import openvino.tools.ovc`` still loads it.
    """
    converter = "openvino.tools.ovc"
    left_out = converter not in sys.modules
    if left_out:
        sys.modules[converter] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if left_out:
            del sys.modules[converter]
    return openvino


def load_runtime(settings: Settings) -> None:
    """Import the runtime that :func:`choose_backend` names, and OpenCV, which analyzers need."""
    name = choose_backend(settings)
    if name == "openvino":
        import_openvino()
    else:
        importlib.import_module(name)
    importlib.import_module("cv2")


def has_int8() -> bool:
    """Whether the processor multiplies bytes without saturating on the way (VNNI, AMX)."""
    return bool(_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def has_bf16() -> bool:
    """Whether the processor multiplies numbers of bf16."""
    return bool(_flags() & {"avx512_bf16", "amx_bf16"})


@functools.cache
def _flags() -> frozenset[str]:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split("flags")
    except OSError:
        return frozenset()
    return frozenset(flags[1].split("\n", 1)[0].split() if len(flags) > 1 else ())


def _failed(bundle: Bundle, runtime: str, error: Exception) -> BackendError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BackendError(
        f"bundle {bundle.name}: {runtime} failed ({first[:160]})",
        hint="try another backend (deepfake doctor lists those installed)",
    )


def _torch_backend(bundle: Bundle, *, settings: Settings, device: str) -> Backend:
    from .torch_backend import TorchBackend

    return TorchBackend(bundle, settings=settings, device=device)


_OPENERS: dict[str, Any] = {
    "torch": _torch_backend,
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

    In order: torch when a CUDA device may be used, ONNX Runtime, OpenVINO, torch on the CPU; in
    fp32 the first two are about equally fast (``python -m benchmarks.backends``), and ONNX Runtime
    starts sooner. With ``precision`` ``auto`` OpenVINO comes first, which gains by it.
    Raises ``MissingDependency`` when the named one, or every one, is missing.
    """
    present = installed_backends()
    if settings.backend != "auto":
        if settings.backend not in present:
            extra = "gpu" if settings.backend == "torch" else None
            raise MissingDependency(settings.backend, extra=extra)
        if settings.wants_cuda and settings.backend != "torch":
            raise SettingsError(
                f"device {settings.device!r}: backend {settings.backend!r} runs on the CPU",
                hint="choose backend torch or auto",
            )
        return settings.backend
    if settings.wants_cuda and "torch" not in present:
        raise MissingDependency("torch", extra="gpu")
    if settings.device != "cpu" and "torch" in present and torch_devices(settings) != ("cpu",):
        return "torch"
    if cpu := cpu_backends(settings):
        return cpu[0]
    raise MissingDependency("onnxruntime")


def cpu_backends(settings: Settings) -> tuple[str, ...]:
    """The backends that are installed and run on a CPU, the preferred first."""
    order = ("onnxruntime", "openvino", "torch")
    if settings.precision == "auto":
        order = ("openvino", "onnxruntime", "torch")
    present = installed_backends()
    return tuple(name for name in order if name in present)


def torch_devices(settings: Settings) -> tuple[str, ...]:
    """``("cpu",)``, or the CUDA devices to use: one that is named, else every visible one.

    Raises ``SettingsError`` when CUDA is asked for and not there. ``auto`` imports torch (seconds)
    only where a driver shows that there may be a device.
    """
    if settings.device == "cpu":
        return ("cpu",)
    if settings.device == "auto" and not any(path.exists() for path in _CUDA_DRIVERS):
        return ("cpu",)
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = tuple(f"cuda:{index}" for index in range(count))
    if settings.wants_cuda and (not found or settings.device not in ("cuda", *found)):
        raise SettingsError(
            f"device {settings.device!r}: torch finds {', '.join(found) or 'no CUDA device'}",
            hint="choose device auto or cpu",
        )
    if settings.device in found:
        return (settings.device,)
    return found or ("cpu",)


def open_backend(
    bundle: Bundle, *, settings: Settings, name: str | None = None, device: str | None = None
) -> Backend:
    """Load ``bundle`` into the chosen backend, or the one that is named, after checking its files.

    ``device`` is one of :func:`torch_devices`, by default the first. Raises ``BackendError``,
    ``ModelError`` and as :func:`choose_backend`.
    """
    name = name or choose_backend(settings)
    if device is None:
        device = torch_devices(settings)[0] if name == "torch" else "cpu"
    backend: Backend = _OPENERS[name](bundle, settings=settings, device=device)
    return backend


def try_golden(bundle: Bundle, backend: Backend) -> tuple[float, float]:
    """The largest gap in score between a backend and torch on the golden inputs, and the
    milliseconds that a window takes. Raises ``BackendError`` and ``ModelError``.
    """
    batch, logits = bundle.golden()
    backend.run(batch)
    started = time.perf_counter()
    result = backend.run(batch)
    elapsed = time.perf_counter() - started
    return bundle.calibration.largest_gap(result, logits), 1000 * elapsed / len(batch)


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
