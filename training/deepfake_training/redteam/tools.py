"""What the attacks of one run share: how strong they are, and what is fitted or loaded once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from deepfake.bundle import Bundle
from deepfake.errors import DeepfakeError, SettingsError
from deepfake.preprocess import Floats, Pixels

from ..attacks.chain import Chain
from ..attacks.gradients import View, fit_universal
from ..attacks.regeneration import Autoencoder, Decoders
from ..attacks.victim import POLICIES
from ..evaluation.material import Sample

EXAMPLES = 6
"""Files that a universal perturbation is fitted to, and genuine ones that decoders are."""
TURNS_PER_STEP = 4


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How hard files are attacked.

    ``budget`` is the most questions about one file, answered under the policy ``answers``;
    ``steps`` those of a white-box attack. ``epsilon`` is the largest change of a pixel in grey
    levels; ``snr`` in dB is how far below a sound its change lies. ``decoder_steps`` fit the small
    autoencoders.
    """

    budget: int = 200
    steps: int = 30
    epsilon: float = 8.0
    snr: float = 30.0
    answers: str = "score"
    seed: int = 1
    decoder_steps: int = 400

    def __post_init__(self) -> None:
        if self.answers not in POLICIES:
            raise SettingsError(
                f"answers {self.answers!r}: unknown", hint=f"known: {', '.join(POLICIES)}"
            )
        for name, least in (("budget", 1), ("steps", 1), ("seed", 0), ("decoder_steps", 1)):
            if getattr(self, name) < least:
                raise SettingsError(
                    f"option {name} {getattr(self, name)}: too low", hint=f"give at least {least}"
                )
        if not 0 < self.epsilon <= 255:
            raise SettingsError(
                f"option epsilon {self.epsilon:g}: out of range", hint="give 1 to 255 grey levels"
            )


class Tools:
    """Loaded or fitted at first use, under a lock; what was fitted stays in ``folder``.

    ``samples`` are all files of the run and ``read`` gives the signal of one. ``passing`` are
    files whose verdict, as they are, is an alarm (True) or none (False).
    """

    def __init__(
        self,
        strength: Strength,
        *,
        slot: str,
        active: Mapping[str, Bundle],
        effort: str,
        folder: Path,
        samples: Sequence[Sample],
        read: Callable[[Sample], Floats],
        weights: Path | None = None,
    ) -> None:
        self.strength, self.weights = strength, weights
        self.passing: Mapping[bool, Sequence[Sample]] = {}
        self._slot, self._active, self._effort = slot, active, effort
        self._folder, self._samples, self._read = folder, samples, read
        self._lock = threading.RLock()
        self._tiles: dict[tuple[bool, int], Floats | None] = {}

    def load(self, *, gradients: bool) -> None:
        """Load what would fail before the first file is attacked; raises ``ModelError``."""
        if gradients:
            _ = self.chain
        if self.weights:
            _ = self.autoencoder

    def keep(self, samples: Sequence[Sample]) -> None:
        """From now on these are the files of the run: those that are of its kind."""
        self._samples = samples

    @cached_property
    def chain(self) -> Chain:
        """The detector as torch sees it."""
        return Chain(self._active, self._slot, effort=self._effort)

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The tiny FLUX.2 autoencoder."""
        if self.weights is None:
            raise SettingsError(
                "attack autoencoder: has no weights",
                hint="give the folder that holds taef2.safetensors as --weights",
            )
        return Autoencoder(self.weights)

    @cached_property
    def decoders(self) -> Decoders:
        """Small autoencoders fitted to genuine files of the run."""
        genuine = [one for one in self._samples if not one.synthetic] or list(self._samples)
        photos: list[Pixels] = []
        for sample in self._spread(genuine)[: 4 * EXAMPLES]:
            pixels = self._read(sample).astype(np.uint8)
            if min(pixels.shape[:2]) >= 64:
                photos.append(pixels)
        if not photos:
            raise DeepfakeError(
                "attack decoder: no file has 64 pixels a side",
                hint="leave it out, or give larger pictures",
            )
        path = self._folder / f"decoders-{self.digest}.safetensors"
        steps, seed = self.strength.decoder_steps, self.strength.seed
        return Decoders(photos, path, steps=steps, seed=seed)

    @property
    def digest(self) -> str:
        """Of all that is fitted: the files, the bundles and how hard it is fitted."""
        strength = self.strength
        parts = [f"{strength.steps} {strength.epsilon} {strength.snr} {strength.decoder_steps}"]
        parts += [str(strength.seed), self._effort]
        parts += [bundle.sha256 for bundle in self._active.values()]
        parts += [f"{one.name} {one.synthetic}" for one in self._samples]
        return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def decode(self, pixels: Pixels, *, upsampler: str) -> Pixels:
        """The picture through one of the small autoencoders."""
        with self._lock:
            decoders = self.decoders
        return decoders.regenerate(pixels, upsampler=upsampler)

    def tile(self, sample: Sample, *, check: Callable[[], None]) -> Floats | None:
        """A universal perturbation that was fitted to files of its class and other sources; None
        where there is none that can be judged.
        """
        fold = _fold(sample.source)
        with self._lock:
            key = (sample.synthetic, fold)
            if key not in self._tiles:
                self._tiles[key] = self._fit_tile(key, check=check)
            return self._tiles[key]

    def donors(self, sample: Sample) -> list[Floats]:
        """Signals of other files that have the verdict which is wanted for this one."""
        wanted = [one for one in self.passing.get(not sample.synthetic, ()) if one != sample]
        return [self._read(one) for one in self._spread(wanted)[:2]]

    def radius(self, signal: Floats) -> float:
        """What a single value may change by: grey levels, or the level of a sound less its SNR."""
        if signal.ndim == 3:
            return self.strength.epsilon
        level = float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))
        return max(1e-6, level * 10 ** (-self.strength.snr / 20))

    def _fit_tile(self, key: tuple[bool, int], *, check: Callable[[], None]) -> Floats | None:
        synthetic, fold = key
        path = self._folder / f"tile-{self.digest}-{int(synthetic)}-{fold}.npy"
        if path.exists():
            return np.asarray(np.load(path, allow_pickle=False), np.float32)
        examples: list[tuple[Floats, View]] = []
        others = [one for one in self._samples if one.synthetic == synthetic]
        for sample in self._spread([one for one in others if _fold(one.source) != fold]):
            signal = self._read(sample)
            view = self.chain.view(signal)
            if view is not None:
                examples.append((signal, view))
            if len(examples) == EXAMPLES:
                break
        if not examples:
            return None
        tile = fit_universal(
            examples,
            radius=float(np.mean([self.radius(signal) for signal, _ in examples])),
            synthetic=synthetic,
            steps=TURNS_PER_STEP * self.strength.steps,
            rng=np.random.default_rng(self.strength.seed),
            check=check,
        )
        np.save(path, tile, allow_pickle=False)
        return tile

    def _spread(self, samples: Sequence[Sample]) -> list[Sample]:
        """In an order that depends on the seed and the names alone."""

        def lot(sample: Sample) -> bytes:
            text = f"{self.strength.seed} {sample.name}"
            return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

        return sorted(samples, key=lot)


def _fold(source: str) -> int:
    """Which half of the sources one is in."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).digest()[0] % 2
