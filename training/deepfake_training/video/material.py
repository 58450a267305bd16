"""What the bank of clips is drawn from: takes, genuine and generated stills, makers of fakes."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from deepfake.content.faces import YunetFinder
from deepfake.content.inputs import Judge
from deepfake.preprocess import ClipPreprocess, Pixels

from ..image.autoencoder import load_autoencoder
from ..image.data import decode
from ..image.decoders import train_decoders
from ..manifests import read_manifest
from ..recipes import Folds
from .bank import BankSettings, Drawer, Still, Take
from .fakes import Maker, Stack, make_makers
from .footage import KINDS, Clip, Footage, read_clips

FINDER = "yunet_s_dynamic.onnx"
NOT_GENERATED = ("ciplab_faces_photoshop", "lfw_faceswap", "taef2_recon")
"""Sets of pictures that are not wholly generated, or are copies of genuine ones."""


class Material:
    """Clips, their footage, stills and makers; everything made on the way stays in ``output``."""

    def __init__(
        self,
        data: Path,
        judge: Judge,
        *,
        folds: Folds,
        decoder_steps: int,
        weights: Path,
        output: Path,
    ) -> None:
        assert isinstance(judge.preprocess, ClipPreprocess)
        self.preprocess = judge.preprocess
        self.clips = read_clips(data / "video", folds=folds)
        finder = YunetFinder(weights / FINDER)
        self.footage = Footage(finder, judge, cache=output / "footage")
        items = [i for i in read_manifest(data / "image") if i.source not in NOT_GENERATED]
        self.stills: tuple[list[Still], list[Still]] = ([], [])
        for item in items:
            self.stills[item.label].append(Still(item.source, partial(_read_still, item.path)))
        self._weights, self._output, self._steps = weights, output, decoder_steps
        self._makers: dict[str, Maker] = {}

    @property
    def makers(self) -> dict[str, Maker]:
        """The makers of pseudo-fakes; the small decoders are trained when first asked for."""
        if not self._makers:
            path = self._output / "decoders.safetensors"
            photos = [] if path.exists() else [still.pixels() for still in self.stills[0]]
            family = train_decoders(photos, path=path, steps=self._steps, seed=1)
            autoencoder = load_autoencoder(self._weights / "taef2.safetensors")
            self._makers = make_makers(family, autoencoder)
        return self._makers

    def takes(self, clips: list[Clip] | None = None) -> list[Take]:
        """All takes of ``clips`` (None: of all clips); a clip's are read once."""
        made = []
        for clip in self.clips if clips is None else clips:
            read = cache(partial(self.footage.takes, clip))
            made += [
                Take(partial(_nth, read, index), clip, KINDS[kind] == "face")
                for index, kind in enumerate(read().kinds)
            ]
        return made

    def drawer(self, settings: BankSettings) -> Drawer:
        return Drawer(
            self.takes(), self.stills, self.makers, preprocess=self.preprocess, settings=settings
        )


def _nth(read: Any, index: int) -> Stack:
    frames: Stack = read().frames[index]
    return frames


def _read_still(path: Path) -> Pixels:
    return decode(path.read_bytes())[0]
