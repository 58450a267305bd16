"""The attacks by kind of file: name, family, source, and how one is made of a case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from deepfake.errors import SettingsError
from deepfake.media.opening import open_media
from deepfake.preprocess import Floats, Pixels
from deepfake.types import Kind

from ..adversarial import L2_SHARE
from ..attacks import clips, framing, laundering, regeneration, searching
from ..attacks.gradients import Ball, Project, attack_by_gradients, corner_mask, repeat_tile
from ..attacks.laundering import Washing, encode_picture
from ..attacks.masking import find_threshold, keep_unheard
from ..evaluation.views import VIEWS, View, code_clip
from .case import Case, Made, read_signal

FAMILIES = ("laundering", "regeneration", "black-box", "white-box", "framing")
BOTH, ONLY_SYNTHETIC, ONLY_GENUINE = (True, False), (True,), (False,)
QUICK = frozenset(
    {"messenger", "screen-photo", "halve-double", "square", "hopskipjump", "apgd-linf"}
    | {"parameters", "watermark", "camera", "voice-message", "g723", "masked", "software"}
    | {"upright", "tags"}
)
"""The attacks of a quick run, at least one of each family."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack. ``on`` tells for which classes it is made: True for synthetic files, which are to
    pass, False for genuine ones, which are to be accused. A ``targeted`` one leaves alone what has
    the wanted verdict already. ``shared`` ones depend on the other files of the run too.
    """

    name: str
    family: str
    says: str
    make: Callable[[Case], Made]
    on: tuple[bool, ...] = BOTH
    source: str = ""
    shared: bool = False
    weights: bool = False

    @property
    def targeted(self) -> bool:
        return self.family in ("black-box", "white-box")


def list_attacks(kind: Kind) -> list[Attack]:
    """All attacks on a kind of file."""
    listed = {Kind.IMAGE: _on_pictures, Kind.AUDIO: _on_sounds, Kind.VIDEO: _on_clips}
    return listed[kind]()


def choose_attacks(kind: Kind, names: str, *, quick: bool, weights: bool) -> list[Attack]:
    """Those of a comma-separated list of names and families, ``all`` for every one.

    Raises ``SettingsError`` for a name that is not known, or that needs weights.
    """
    known = list_attacks(kind)
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    for name in wanted - {"all", *FAMILIES, *(one.name for one in known)}:
        raise SettingsError(
            f"attack {name!r}: unknown for {kind.value}",
            hint=f"known: all, {', '.join((*FAMILIES, *(one.name for one in known)))}",
        )
    chosen = [
        one
        for one in known
        if {"all", one.name, one.family} & wanted
        and (one.name in QUICK or one.name in wanted or not quick)
    ]
    for one in chosen:
        if one.weights and one.name in wanted and not weights:
            raise SettingsError(f"attack {one.name}: has no weights", hint="give --weights FOLDER")
    return [one for one in chosen if weights or not one.weights]


def _on_pictures() -> list[Attack]:
    attacks = [_of_view(name, view) for name, view in VIEWS[Kind.IMAGE].items()]
    attacks += [_of_washing(name, washing) for name, washing in laundering.PICTURES.items()]
    again = partial(Attack, family="regeneration")
    attacks += [
        again(
            name="denoise",
            says="non-local means",
            make=_on_pixels(regeneration.denoise),
            source="Buades et al. 2005",
        ),
        again(
            name="halve-double",
            says="half of the size and back",
            make=_on_pixels(regeneration.halve_and_double),
        ),
        *(
            again(
                name=f"decoder-{name}",
                says=f"through a small autoencoder with {name} up-sampling",
                make=partial(_decode, upsampler=name),
                source="Saberi et al. 2024",
                shared=True,
            )
            for name in ("nearest", "shuffle")
        ),
        again(
            name="autoencoder",
            says="through the tiny FLUX.2 autoencoder",
            make=_autoencode,
            source="Saberi et al. 2024",
            weights=True,
        ),
    ]
    attacks += _black_box() + _white_box()
    attacks.append(
        Attack(
            name="patch",
            family="white-box",
            says="4 % of the area, in a corner, without a bound",
            make=_patch,
            source="Brown et al. 2017",
        )
    )
    plant = partial(Attack, family="framing")
    return [
        *attacks,
        plant(
            name="parameters",
            says="parameters of a generator as PNG text",
            make=_on_content(framing.plant_parameters, ".png"),
            on=ONLY_GENUINE,
        ),
        plant(
            name="label",
            says="IPTC source type: generated",
            make=_on_content(framing.plant_label, ".png"),
            on=ONLY_GENUINE,
        ),
        plant(
            name="watermark",
            says="the invisible watermark of SDXL",
            make=_on_pixels(framing.plant_watermark),
            on=ONLY_GENUINE,
            source="Müller et al. 2024",
        ),
        plant(
            name="manifest",
            says="C2PA manifest of an unknown signer: generated",
            make=partial(_sign, source=framing.GENERATED),
            on=ONLY_GENUINE,
        ),
        plant(
            name="camera",
            says="Exif of a phone's camera, JPEG 95",
            make=_on_content(framing.plant_camera, ".jpg"),
            on=ONLY_SYNTHETIC,
        ),
        plant(
            name="capture-manifest",
            says="C2PA manifest of an unknown signer: captured",
            make=partial(_sign, source=framing.CAPTURED),
            on=ONLY_SYNTHETIC,
        ),
    ]


def _on_sounds() -> list[Attack]:
    attacks = [_of_view(name, view) for name, view in VIEWS[Kind.AUDIO].items()]
    attacks += [_of_washing(name, washing) for name, washing in laundering.SOUNDS.items()]
    again = partial(Attack, family="regeneration")
    attacks.append(
        again(
            name="vocoder",
            says="80 mel bands and Griffin-Lim",
            make=_on_signal(regeneration.vocode),
            source="Griffin and Lim 1984",
        )
    )
    for codec in ("g723", "amr"):
        coder = partial(regeneration.code_parametrically, codec=codec)
        says = f"a round trip through the speech coder {codec}"
        attacks.append(again(name=codec, says=says, make=_on_signal(coder)))
    attacks += _black_box() + _white_box()
    attacks.append(
        Attack(
            name="masked",
            family="white-box",
            says="below the masking threshold of the sound",
            make=_mask,
            source="Qin et al. 2019",
        )
    )
    plant = partial(Attack, family="framing")
    return [
        *attacks,
        plant(
            name="software",
            says="a generator's name as the software that wrote it",
            make=_name_software,
            on=ONLY_GENUINE,
        ),
        *_manifests(),
    ]


def _on_clips() -> list[Attack]:
    attacks = [_of_view(name, view) for name, view in VIEWS[Kind.VIDEO].items()]
    attacks += [_of_view(name, view) for name, view in clips.CLIPS.items()]
    label = {"AIGC": '{"Label":"1","ContentProducer":"unknown","ProduceID":"1"}'}
    plant = partial(Attack, family="framing")
    return [
        *attacks,
        plant(
            name="tags",
            says="the AIGC label of TC260 in its metadata, CRF 18",
            make=_of_view(
                "", View(says="", suffix=".mp4", make=code_clip(crf=18, tags=label))
            ).make,
            on=ONLY_GENUINE,
        ),
        *_manifests(),
    ]


def _manifests() -> list[Attack]:
    """What anybody can sign, the same for every kind of file."""
    return [
        Attack(
            name="manifest",
            family="framing",
            says="C2PA manifest of an unknown signer: generated",
            make=partial(_sign, source=framing.GENERATED),
            on=ONLY_GENUINE,
        ),
        Attack(
            name="capture-manifest",
            family="framing",
            says="C2PA manifest of an unknown signer: captured",
            make=partial(_sign, source=framing.CAPTURED),
            on=ONLY_SYNTHETIC,
        ),
    ]


def _black_box() -> list[Attack]:
    return [
        _ask(
            "chains",
            "random histories until one passes",
            lambda case: case.besiege(lambda victim: searching.try_chains(victim, rng=case.rng)),
        ),
        _ask(
            "random-search",
            "smooth noise, kept where it helps",
            partial(_search, search=searching.search_randomly),
            source="Guo et al. 2019 (low frequency)",
        ),
        _ask(
            "square",
            "random squares or stretches",
            partial(_search, search=searching.search_squares),
            source="Andriushchenko et al. 2020",
        ),
        _ask(
            "simba",
            "waves of the cosine basis",
            partial(_search, search=searching.search_cosines),
            source="Guo et al. 2019 (simple)",
        ),
        _ask(
            "hopskipjump",
            "along the boundary of the verdict, by words alone",
            _walk,
            source="Chen et al. 2020",
            shared=True,
        ),
    ]


def _ask(
    name: str,
    says: str,
    make: Callable[[Case], Made],
    *,
    source: str = "",
    shared: bool = False,
) -> Attack:
    return Attack(name=name, family="black-box", says=says, make=make, source=source, shared=shared)


def _white_box() -> list[Attack]:
    follow = partial(Attack, family="white-box")
    return [
        follow(
            name="apgd-linf",
            says="APGD on the cross-entropy, every value bounded",
            make=partial(_follow, norm="linf"),
            source="Croce and Hein 2020",
        ),
        follow(
            name="apgd-l2",
            says="APGD on the cross-entropy, the whole bounded",
            make=partial(_follow, norm="l2"),
            source="Croce and Hein 2020",
        ),
        follow(
            name="universal",
            says="one perturbation, fitted to other sources, over any file",
            make=_apply_universal,
            source="Moosavi-Dezfooli et al. 2017",
            shared=True,
        ),
    ]


def _of_view(name: str, view: View) -> Attack:
    def make(case: Case) -> Made:
        content = view.make(case.media)
        signal = None
        if case.kind is not Kind.VIDEO:
            with open_media(content, limits=case.media.limits) as media:
                signal = read_signal(media)
        return Made(content=content, suffix=view.suffix, signal=signal)

    return Attack(name=name, family="laundering", says=view.says, make=make)


def _of_washing(name: str, washing: Washing) -> Attack:
    def make(case: Case) -> Made:
        changed = washing.change(case.signal)
        if case.kind is not Kind.IMAGE or washing.format == "PNG":
            return case.store(changed)
        pixels = changed.round().astype(np.uint8)
        content = encode_picture(pixels, format=washing.format, quality=washing.quality)
        with open_media(content, limits=case.media.limits) as media:
            signal = read_signal(media)
        return Made(content=content, suffix=f".{washing.format.lower()}", signal=signal)

    return Attack(name=name, family="laundering", says=washing.says, make=make)


def _on_signal(change: Callable[[Floats], Floats]) -> Callable[[Case], Made]:
    return lambda case: case.store(change(case.signal))


def _on_pixels(change: Callable[[Pixels], Pixels]) -> Callable[[Case], Made]:
    return _on_signal(lambda signal: change(signal.astype(np.uint8)).astype(np.float32))


def _on_content(write: Callable[[Pixels], bytes], suffix: str) -> Callable[[Case], Made]:
    def make(case: Case) -> Made:
        content = write(case.signal.astype(np.uint8))
        with open_media(content, limits=case.media.limits) as media:
            signal = read_signal(media)
        return Made(content=content, suffix=suffix, signal=signal)

    return make


def _decode(case: Case, *, upsampler: str) -> Made:
    pixels = case.tools.decode(case.signal.astype(np.uint8), upsampler=upsampler)
    return case.store(pixels.astype(np.float32))


def _autoencode(case: Case) -> Made:
    pixels = case.tools.autoencoder.regenerate(case.signal.astype(np.uint8))
    return case.store(pixels.astype(np.float32))


def _sign(case: Case, *, source: str) -> Made:
    """Clips keep their bytes where a manifest can be put into them; else they are coded again."""
    if case.kind is Kind.VIDEO:
        raw, suffix = case.sample.path.read_bytes(), ".mp4"
        if case.media.info.format != "mp4":
            raw = code_clip(crf=18)(case.media)
        content = framing.plant_manifest(raw, mime="video/mp4", source=source)
        return Made(content=content, suffix=suffix)
    made = case.store(case.signal)
    mime = "image/png" if case.kind is Kind.IMAGE else "audio/wav"
    content = framing.plant_manifest(made.content, mime=mime, source=source)
    return Made(content=content, suffix=made.suffix, signal=made.signal)


def _name_software(case: Case) -> Made:
    made = case.store(case.signal)
    content = framing.plant_software(made.content)
    return Made(content=content, suffix=made.suffix, signal=made.signal)


def _search(case: Case, *, search: Callable[..., None]) -> Made:
    return case.besiege(lambda victim: search(victim, epsilon=case.radius, rng=case.rng))


def _walk(case: Case) -> Made:
    starts: Sequence[Floats] = case.tools.donors(case.sample)
    return case.besiege(
        lambda victim: searching.walk_boundary(victim, rng=case.rng, starts=starts),
        most_change=case.radius,
    )


def _follow(case: Case, *, norm: str) -> Made:
    pictured = case.kind is Kind.IMAGE
    radius = case.radius * (L2_SHARE if norm == "l2" and pictured else 1.0)
    return _descend(case, Ball(norm, radius))


def _patch(case: Case) -> Made:
    return _descend(case, Ball("linf", 255.0, corner_mask(*case.signal.shape[:2])))


def _mask(case: Case) -> Made:
    project = keep_unheard(find_threshold(case.signal))
    loud = torch.from_numpy(case.rng.standard_normal(case.signal.shape).astype(np.float32))
    radius = float(project(loud).square().mean().sqrt())
    return _descend(case, Ball("l2", radius), project=project)


def _descend(case: Case, ball: Ball, *, project: Project | None = None) -> Made:
    view = case.tools.chain.view(case.signal)
    if view is None:
        return case.store(case.signal)
    changed = attack_by_gradients(
        case.signal,
        view,
        ball,
        synthetic=case.sample.synthetic,
        steps=case.strength.steps,
        rng=case.rng,
        project=project,
        check=case.check,
    )
    return case.store(changed)


def _apply_universal(case: Case) -> Made:
    tile = case.tools.tile(case.sample, check=case.check)
    if tile is None:
        return case.store(case.signal)
    # A sound's bound follows its own level, a picture's is the same for all.
    gain = np.float32(case.radius / max(1e-9, float(np.abs(tile).max())))
    return case.store(case.signal + gain * repeat_tile(tile, case.signal.shape))
