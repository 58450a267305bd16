"""The engine: one loaded backend per bundle and device, requests of many callers in shared batches.

A request goes to the device with the shortest queue; see :mod:`deepfake.engine.queues`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import replace
from typing import TypeVar

from ..bundle import FULL_TIERS, QUICK_TIERS, Bundle, Logits
from ..errors import BackendError, DeepfakeError, ModelError
from ..preprocess import Batch
from ..reasons import Code
from ..settings import Settings, crop_key_file
from ..trust.registry import missing_tiers, read_bundles, read_list, warn_of, word_install
from ..trust.signatures import Trust, require_signed
from ..types import Kind
from .backends import Backend, choose_backend, load_runtime, torch_devices
from .maps import FacePlaces, read_map
from .places import keep_key
from .queues import DeviceQueue
from .scores import Scored

_Answer = TypeVar("_Answer")

SLOTS_OF_KIND = {
    Kind.IMAGE: ("image", "face-finder"),
    Kind.AUDIO: ("audio",),
    Kind.VIDEO: ("frame", "face-finder", "video", "face", "audio"),
}
"""What every file of a kind is judged by, the first needed first; pictures may have no face."""


class Engine:
    """Scores batches with the active bundle of each slot; safe to share between threads.

    ``active`` maps a slot to its bundle. Backends are opened at first use, or ahead of it by
    :meth:`prepare` or :meth:`warm`, but one that cannot be had raises at once
    (``MissingDependency``, ``SettingsError``), and so does a bundle that is missing, has a file
    that differs from its sha256, or is not signed by a trusted pair of keys (``ModelError``).
    ``warnings`` are sentences about bundles that are not shipped or not signed, and about backends
    that failed and what runs in their place. A training that works on its own bundles gives them
    as ``active``, which are taken as they are. ``missing`` maps the slots of full tiers that are
    listed and not installed to their names; ``suspended`` slots, those of the list and what is
    given, to the reason for which nothing answers there. ``crop_key`` is the secret by which crops
    of pictures are drawn, None where they lie in their usual places.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        active: Mapping[str, Bundle] | None = None,
        suspended: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.crop_key = keep_key(crop_key_file()) if self.settings.random_crops else None
        name = choose_backend(self.settings)
        self.devices = torch_devices(self.settings) if name == "torch" else ("cpu",)
        folder = self.settings.models_folder
        listed = read_list(folder) if active is None else None
        held = dict(listed.suspended if listed else {}) | dict(suspended or {})
        found = read_bundles(folder) if active is None else active
        self.active = {
            slot: bundle
            for slot, bundle in found.items()
            if slot not in held and QUICK_TIERS.get(slot) not in held
        }
        self.warnings: list[str] = warn_of(folder, self.active) if active is None else []
        self.missing = missing_tiers(folder) if active is None else {}
        self.suspended: Mapping[str, str] = held
        self._queues: dict[str, Future[list[DeviceQueue]]] = {}
        self._lock = threading.Lock()
        self._closed = False
        # Importing a runtime takes as long as opening and decoding a picture: both at once.
        threading.Thread(target=self._load_runtime, daemon=True).start()
        if active is None:
            # Meanwhile: hashing needs no interpreter.
            trust = Trust.read(self.settings)
            self.warnings += require_signed(self.active.values(), trust)

    def bundle(self, slot: str) -> Bundle:
        """The active bundle of a slot; raises ``ModelError`` when there is none, or the slot is
        suspended.
        """
        if slot in self.suspended:
            raise ModelError(
                f"slot {slot}: is suspended ({self.suspended[slot]})",
                code=Code.MODEL_SUSPENDED,
                hint="wait until whoever runs this has replaced its model",
            )
        if slot not in self.active:
            raise ModelError(
                f"slot {slot}: no bundle in {self.settings.models_folder}",
                code=Code.NO_BUNDLE,
                hint="deepfake models list shows what is there",
            )
        return self.active[slot]

    def full_tier(self, slot: str) -> Bundle | None:
        """The full tier of a slot; None where it has none, or where it is not installed."""
        return self.active.get(FULL_TIERS.get(slot, ""))

    def require_effort(self, effort: str) -> None:
        """Raise ``ModelError`` when full tiers are wanted and there is none; where only some are
        missing, the reports of the files that need them say so.
        """
        if effort != "full" or any(full in self.active for full in QUICK_TIERS):
            return
        for name in self.missing.values():
            raise ModelError(
                f"effort full: {name} is not installed",
                hint=f"run: {word_install(name)}; or choose effort quick",
            )
        raise ModelError(
            f"effort full: no slot has a full tier in {self.settings.models_folder}",
            hint="deepfake models list shows what is there; or choose effort quick",
        )

    def submit(self, bundle: Bundle, batch: Batch) -> Future[Scored]:
        """Queue windows of one input (windows, …); the future gives its ``Scored``."""
        return self._shortest_queue(bundle).submit(
            batch, lambda logits: Scored.read(logits, bundle.calibration)
        )

    def logits(self, bundle: Bundle, batch: Batch) -> Logits:
        """What the network itself gives for a batch (windows, …), which only those need who compare
        networks: the export.
        """
        return self._shortest_queue(bundle).submit(batch, lambda logits: logits).result()

    def find_faces(self, bundle: Bundle, batch: Batch, *, zoom: float) -> list[FacePlaces]:
        """The places of faces on each canvas of a batch (canvases, rows, columns, 3) for a face
        finder, in pixels of the picture, of which ``zoom`` are one of the canvas.
        """
        rows, columns = batch.shape[1:3]
        least = bundle.calibration.points.synthetic
        return [
            read_map(values, rows=rows, columns=columns, zoom=zoom, least=least)
            for values in self.logits(bundle, batch)
        ]

    def score(self, bundle: Bundle, batch: Batch) -> Scored:
        """Score the windows of one input (windows, …) and wait for the result."""
        return self.submit(bundle, batch).result()

    def backend(self, bundle: Bundle) -> Backend:
        """The loaded backend of a bundle, on the first of the devices."""
        return self._open(bundle).result()[0].backend

    def runtime_of(self, bundle: Bundle) -> str:
        """What runs a bundle: backend, device and precision."""
        backend = self.backend(bundle)
        return f"{backend.name} {backend.device} {backend.precision}"

    def warn_of_precision(self, kind: Kind) -> list[str]:
        """A warning when what judges this kind of file does not all run in fp32; see
        :meth:`check_kind`, which opens it.
        """
        if self.settings.precision == "fp32":
            return []
        bundles = [self.active[slot] for slot in self._slots(kind) if slot in self.active]
        ran = [(bundle.name, self.backend(bundle).precision) for bundle in bundles]
        lowered = ", ".join(
            f"{name} in {precision}" for name, precision in ran if precision != "fp32"
        )
        if not lowered:
            return []
        return [
            f"Precision {self.settings.precision} ran {lowered}; in fp32 scores differ a little."
        ]

    def prepare(self, kind: Kind, *, effort: str = "auto") -> None:
        """Begin to open, in the background, the bundles that a file of this kind surely needs."""
        full = [FULL_TIERS[slot] for slot in SLOTS_OF_KIND[kind] if slot in FULL_TIERS]
        for slot in (*SLOTS_OF_KIND[kind], *(full if effort == "full" else ())):
            if slot in self.active:
                with suppress(BackendError):  # a closed engine says so to those who score
                    self._open(self.active[slot])

    def check_kind(self, kind: Kind) -> None:
        """:meth:`check` of what judges a kind of file, a full tier only once one was asked."""
        self.check(self._slots(kind))

    def check(self, slots: Iterable[str]) -> None:
        """Wait until the bundles of these slots are open, those of slots without one apart.

        Raises ``ModelError`` for a bundle that no backend can load.
        """
        bundles = [self.active[slot] for slot in slots if slot in self.active]
        for bundle, opening in [(bundle, self._open(bundle)) for bundle in bundles]:
            error = opening.exception()
            if isinstance(error, DeepfakeError) and not isinstance(error, BackendError):
                raise error
            if error is not None:
                raise ModelError(
                    f"bundle {bundle.name}: cannot be loaded ({str(error).split('; ')[0]})",
                    hint="deepfake doctor tells which backends can, deepfake models verify whether "
                    "it is whole",
                ) from error

    def warm(self) -> None:
        """Open every bundle on every device and run it once, so that no file waits for that."""
        for bundle in self.active.values():
            self._open(bundle)
        for bundle in self.active.values():
            batch, _ = bundle.golden()
            for queue in self._open(bundle).result():
                queue.submit(batch, lambda logits: logits).result()

    def require_open(self) -> None:
        """Raise ``BackendError`` once :meth:`close` was called."""
        if self._closed:
            raise BackendError("detector: is closed", hint="make a new Detector")

    def close(self) -> None:
        """Finish what is queued, then release every backend."""
        with self._lock:
            self._closed = True
            opened, self._queues = list(self._queues.values()), {}
        for future in opened:
            with suppress(DeepfakeError):
                for queue in future.result():
                    queue.close()

    def _slots(self, kind: Kind) -> list[str]:
        """The slots of a kind of file, with the full tiers that are in use."""
        slots = list(SLOTS_OF_KIND[kind])
        full = [self.full_tier(slot) for slot in slots]
        return slots + [one.slot for one in full if one is not None and one.name in self._queues]

    def _shortest_queue(self, bundle: Bundle) -> DeviceQueue:
        """The device with the shortest queue."""
        return min(self._open(bundle).result(), key=lambda queue: queue.queued)

    def _open(self, bundle: Bundle) -> Future[list[DeviceQueue]]:
        with self._lock:
            self.require_open()
            known = self._queues.get(bundle.name)
            if known is not None and not (known.done() and known.exception()):
                return known
            future: Future[list[DeviceQueue]] = Future()
            self._queues[bundle.name] = future
        opener = threading.Thread(
            target=_fulfil, args=(future, lambda: self._open_queues(bundle)), daemon=True
        )
        opener.start()
        return future

    def _open_queues(self, bundle: Bundle) -> list[DeviceQueue]:
        return [
            DeviceQueue(bundle, self.settings, device=device, warn=self._warn)
            for device in self.devices
        ]

    def _load_runtime(self) -> None:
        with suppress(Exception):  # the queue that needs it says what is wrong, or does without
            load_runtime(self.settings)

    def _warn(self, text: str) -> None:
        with self._lock:
            if text not in self.warnings:
                self.warnings.append(text)


def check_bundles(settings: Settings, *, effort: str = "auto") -> dict[str, Bundle]:
    """The active bundles, once every file of them was compared and each was loaded, but for full
    tiers that the ``effort`` has no use for.

    Where any backend may run them, the quickest to load decides, as it would stand in for others.
    Raises ``ModelError`` for one that cannot be used, and as :class:`Engine`.
    """
    if settings.backend == "auto":
        settings = replace(settings, precision="fp32")
    with closing(Engine(settings)) as engine:
        engine.require_effort(effort)
        unused = QUICK_TIERS if effort == "quick" else {}
        engine.check(slot for slot in engine.active if slot not in unused)
        return engine.active


def _fulfil(future: Future[_Answer], make: Callable[[], _Answer]) -> None:
    try:
        future.set_result(make())
    except Exception as error:  # noqa: BLE001 - handed to the callers that wait, whatever it is
        future.set_exception(error)
