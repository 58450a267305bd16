"""What adversarial training of the last stages of a picture network buys and costs, beside other
ways to regularise the same short tuning, on sources that it did not see.

Every variant starts from the shipped weights and takes the same batches; the shipped network itself
saw whatever its own recipe names. Files are attacked that a variant finds at a threshold which one
in twenty genuine held-out files reaches, by gradients (APGD) and by questions (Square), each file
with the network's own crops, without calibration, cautions and the full tier.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm import tqdm

from deepfake.bundle import WEIGHTS, Bundle
from deepfake.errors import DeepfakeError, SettingsError
from deepfake.files import replaced
from deepfake.media.opening import open_media
from deepfake.preprocess import Floats, ImagePreprocess, Pixels
from deepfake.types import Kind, Verdict

from .. import perturb
from ..adversarial import L2_SHARE, Hardening, mislead_half
from ..attacks.gradients import Ball, attack_by_gradients
from ..attacks.searching import search_squares
from ..attacks.victim import Finished, Goal, Victim
from ..card import markdown
from ..fitting import prepare_process
from ..metrics import separation
from ..own.material import Source
from ..own.network import open_network
from ..tuning import Tuning, tune_network

HELD_SHARE = 1 / 3
"""Of the sources of each class, that no variant is tuned on."""
TUNED_SHARE = 1 / 3
"""Of the tensors of the network, the last ones, that are tuned."""
PART_SIDES = 2
"""Of a file that is learnt from, a square of so many sides of the network's crop is kept."""
WINDOWS = 4
"""Of a file that is judged, at most."""
FALSE_ALARMS = 0.05
LEVELS = 4.0
_RATE = 2e-4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and on how much: so many tuning ``steps`` of ``batch`` crops, ``judged`` files of
    each class, at most ``attacked`` of those that are found, by gradients of so many
    ``gradient_steps`` and by ``queries`` questions.
    """

    steps: int = 150
    batch: int = 32
    judged: int = 60
    attacked: int = 12
    gradient_steps: int = 8
    queries: int = 200
    seed: int = 1


QUICK = Plan(steps=2, batch=4, judged=4, attacked=1, gradient_steps=2, queries=3)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The shipped network tuned on with these settings; no ``steps`` leave it as it is."""

    name: str
    tuning: Tuning
    hardening: Hardening = field(default_factory=Hardening)
    dropout: float = 0.0
    tuned: bool = True


class Row(NamedTuple):
    """What one variant came to: AUC of held-out files, how many synthetic ones are ``found``, and
    the shares of the ``attacked`` ones that got below the threshold, None where there are none.
    """

    variant: str
    clean: float
    web: float
    found: int
    attacked: int
    linf: float | None
    l2: float | None
    square: float | None
    median_queries: float | None
    seconds: float


class Exhibit(NamedTuple):
    """A decoded file: RGB ``pixels`` (height, width, 3), 1 for a synthetic one."""

    pixels: Pixels
    label: int


def list_variants(plan: Plan) -> list[Variant]:
    """Every variant: the network as it is, regularisers one at a time, and hardened ones."""
    usual = Tuning(seed=plan.seed, batch=plan.batch, learning_rate=_RATE)
    make: dict[str, dict[str, Any]] = {
        "tuned on, nothing else": {},
        "adversarial, linf": {"hardening": Hardening(levels=LEVELS)},
        "adversarial, linf and l2": {"hardening": Hardening(levels=LEVELS, norms=("linf", "l2"))},
        "dropout 0.5": {"dropout": 0.5},
        "weight decay 0.2": {"tuning": replace(usual, weight_decay=0.2)},
        "label smoothing 0.1": {"tuning": replace(usual, smoothing=0.1)},
        "no averaging": {"tuning": replace(usual, average=0.0)},
    }
    shipped = Variant(name="as shipped", tuning=usual, tuned=False)
    return [shipped, *(Variant(**{"name": n, "tuning": usual, **v}) for n, v in make.items())]


def study(
    sources: Sequence[Source],
    base: Bundle,
    *,
    work: Path,
    plan: Plan,
    threads: int,
    variants: Sequence[Variant] | None = None,
) -> list[Row]:
    """A row for each variant; those that are finished are read from ``work``.

    Raises ``SettingsError`` for a bundle without a picture network of torch.
    """
    prepare_process(threads or torch.get_num_threads())
    preprocess = base.preprocess
    if not isinstance(preprocess, ImagePreprocess) or WEIGHTS not in base.files:
        raise SettingsError(
            f"bundle {base.name}: is no network of pictures with weights", hint="give --slot image"
        )
    work.mkdir(parents=True, exist_ok=True)
    known, held = split_sources(sources)
    exhibits = _read(held, most=plan.judged, seed=plan.seed)
    batches: Batches | None = None
    rows = []
    for variant in variants or list_variants(plan):
        files = sorted(str(path) for one in sources for path in one.files)
        facts = repr((asdict(variant), asdict(plan), base.logit_sha256, files))
        name = re.sub("[^a-z0-9]+", "-", variant.name)
        path = work / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.json"
        if not path.exists():
            started = time.monotonic()
            network = _open(base, dropout=variant.dropout)
            if variant.tuned:
                batches = batches or Batches(known, preprocess, plan)
                network = _tune(network, variant, batches, plan, path.with_suffix(".safetensors"))
            row = judge(variant.name, network, preprocess, exhibits, plan)
            row = row._replace(seconds=round(time.monotonic() - started, 1))
            with replaced(path) as partial:
                partial.write_bytes(msgspec.json.encode(row))
        rows.append(msgspec.json.decode(path.read_bytes(), type=Row))
    return rows


def table(rows: Sequence[Row], *, held: Sequence[Source], plan: Plan) -> str:
    """The rows as Markdown, with what they were measured on."""
    names = ", ".join(source.name for source in held)
    head = (
        "variant", "AUC", "AUC, web", "found", "attacked", "APGD L∞", "APGD L2", "Square",
        "median questions", "seconds",
    )  # fmt: skip
    cells = [
        (
            row.variant,
            f"{row.clean:.3f}",
            f"{row.web:.3f}",
            row.found,
            row.attacked,
            *(_told(share, ".2f") for share in (row.linf, row.l2, row.square)),
            _told(row.median_queries, "g"),
            f"{row.seconds:.0f}",
        )
        for row in rows
    ]
    return (
        f"{markdown(head, cells)}\n"
        f"{plan.steps} steps of {plan.batch} crops, seed {plan.seed}; attacked within {LEVELS:g} "
        f"grey levels (L2: {LEVELS * L2_SHARE:g} in root mean square), {plan.gradient_steps} steps "
        f"of gradients, {plan.queries} questions; held out: {names}.\n"
    )


def _told(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def split_sources(sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """The sources that are learnt from, and a third of each class that is held out."""
    held = []
    for label in (0, 1):
        own = sorted(
            (one for one in sources if one.label == label),
            key=lambda one: hashlib.sha256(one.name.encode()).digest(),
        )
        held += own[: max(1, round(HELD_SHARE * len(own)))]
    return [one for one in sources if one not in held], held


class Batches:
    """Seeded batches, half of each class, sources alike, of crops with a random history."""

    def __init__(self, sources: Sequence[Source], preprocess: ImagePreprocess, plan: Plan) -> None:
        self._preprocess, self._seed = preprocess, plan.seed
        side = PART_SIDES * preprocess.side_pixels
        self._parts: dict[int, list[list[Pixels]]] = {0: [], 1: []}
        for source in tqdm(sources, desc="reading what is learnt from", mininterval=5):
            parts = [
                _middle(one.pixels, side) for one in _read([source], most=len(source.files), seed=0)
            ]
            if parts:
                self._parts[source.label].append(parts)

    def draw(self, step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops (size, 3, side, side) and labels (size,) of a step, the same at every call."""
        rng = np.random.default_rng([self._seed, step])
        labels = np.arange(size) % 2
        crops = []
        for label in labels:
            own = self._parts[int(label)]
            parts = own[int(rng.integers(len(own)))]
            part = parts[int(rng.integers(len(parts)))]
            if rng.random() < 0.7:
                part = perturb.draw_picture_chain(rng)(part)
            side = self._preprocess.side_pixels
            top, left = (int(rng.integers(max(1, length - side + 1))) for length in part.shape[:2])
            crops.append(self._preprocess.fit(part[top : top + side, left : left + side]))
        batch = torch.from_numpy(self._preprocess.scale(np.stack(crops)))
        return batch, torch.from_numpy(labels.astype(np.float32))


class View:
    """One picture as a network sees it, for attacks: see :mod:`..attacks.chain`."""

    def __init__(self, network: nn.Module, preprocess: ImagePreprocess) -> None:
        self._network, self._preprocess = network, preprocess
        mean, std = torch.tensor(preprocess.scale.mean), torch.tensor(preprocess.scale.std)
        self._mean, self._std = mean.reshape(1, 3, 1, 1), std.reshape(1, 3, 1, 1)

    def odds(self, signal: torch.Tensor, *, stable: bool = True) -> list[torch.Tensor]:
        """The mean logit over the crops of RGB (height, width, 3) in 0…255, alone in a list."""
        del stable
        side = self._preprocess.side_pixels
        height, width = signal.shape[:2]
        crops = []
        for box in self._preprocess.boxes(width, height, max_windows=WINDOWS):
            rows, columns = (
                torch.from_numpy(np.pad(np.arange(s, s + n), (0, side - n), mode="symmetric"))
                for s, n in ((box.top, box.height), (box.left, box.width))
            )
            crops.append(signal[rows][:, columns])
        batch = torch.stack(crops).permute(0, 3, 1, 2) / 255
        logits: torch.Tensor = self._network((batch - self._mean) / self._std)
        return [logits.mean()]

    @torch.no_grad()
    def logit(self, signal: Floats | Pixels) -> float:
        """The mean logit of a picture as it is stored, in whole grey levels."""
        stored = np.asarray(signal, np.float32).round().clip(0, 255)
        return float(self.odds(torch.from_numpy(stored))[0])


def judge(
    name: str,
    network: nn.Module,
    preprocess: ImagePreprocess,
    exhibits: Sequence[Exhibit],
    plan: Plan,
) -> Row:
    """What one network comes to on held-out ``exhibits``."""
    view = View(network.eval().requires_grad_(False), preprocess)
    bar = tqdm(exhibits, desc=f"{name}: judging", mininterval=5)
    clean = [view.logit(one.pixels) for one in bar]
    web = [view.logit(perturb.web(one.pixels)) for one in exhibits]
    labels = np.array([one.label for one in exhibits])
    genuine = np.array(clean)[labels == 0]
    threshold = float(np.quantile(genuine, 1 - FALSE_ALARMS, method="higher"))
    found = [n for n, one in enumerate(exhibits) if one.label and clean[n] > threshold]
    chosen = found[: plan.attacked]
    won: dict[str, list[bool]] = {"linf": [], "l2": [], "square": []}
    queries = []
    for number in tqdm(chosen, desc=f"{name}: attacking", mininterval=5):
        signal = exhibits[number].pixels.astype(np.float32)
        for norm, radius in (("linf", LEVELS), ("l2", LEVELS * L2_SHARE)):
            made = attack_by_gradients(
                signal,
                view,
                Ball(norm, radius),
                synthetic=True,
                steps=plan.gradient_steps,
                rng=np.random.default_rng([plan.seed, number]),
            )
            won[norm].append(view.logit(made) <= threshold)
        victim = Victim(
            signal,
            _alarm(view, threshold),
            goal=Goal(True),
            policy="score",
            budget=plan.queries,
        )
        with contextlib.suppress(Finished):
            rng = np.random.default_rng([plan.seed, number])
            search_squares(victim, epsilon=LEVELS, rng=rng)
        won["square"].append(victim.reached_after is not None)
        queries += [victim.reached_after] if victim.reached_after else []
    shares = {key: float(np.mean(value)) if value else None for key, value in won.items()}
    return Row(
        variant=name,
        clean=_auc(labels, clean),
        web=_auc(labels, web),
        found=len(found),
        attacked=len(chosen),
        median_queries=float(np.median(queries)) if queries else None,
        seconds=0.0,
        **shares,
    )


class _Told(NamedTuple):
    verdict: Verdict
    probability: float


def _alarm(view: View, threshold: float) -> Callable[[Floats], _Told]:
    """A detector that raises an alarm above the ``threshold``."""

    def detect(signal: Floats) -> _Told:
        logit = view.logit(signal)
        verdict = Verdict.SUSPICIOUS if logit > threshold else Verdict.AUTHENTIC
        return _Told(verdict, 1 / (1 + float(np.exp(-logit))))

    return detect


def _auc(labels: npt.NDArray[np.int64], logits: Sequence[float]) -> float:
    values = np.array(logits)
    return separation(values[labels == 1].tolist(), values[labels == 0].tolist())


def _open(base: Bundle, *, dropout: float) -> nn.Module:
    """The shipped network, of which only the last tensors are tuned."""
    opened = open_network(base)
    parameters = list(opened.network.parameters())
    fixed = len(parameters) - max(1, round(TUNED_SHARE * len(parameters)))
    for parameter in parameters[:fixed]:
        parameter.requires_grad_(False)
    if dropout:

        def drop(part: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (nn.functional.dropout(inputs[0], dropout, part.training), *inputs[1:])

        opened.last.register_forward_pre_hook(drop)
    return opened.network


def _tune(
    network: nn.Module, variant: Variant, batches: Batches, plan: Plan, path: Path
) -> nn.Module:
    preprocess = batches._preprocess

    def change(
        asked: nn.Module, batch: torch.Tensor, goal: torch.Tensor, step: int
    ) -> torch.Tensor:
        return mislead_half(
            asked,
            batch,
            goal,
            hardening=variant.hardening,
            scale=preprocess.scale,
            seed=(plan.seed, step),
        )

    tuned = tune_network(
        lambda: network,
        batches.draw,
        examples=plan.steps * plan.batch,
        settings=variant.tuning,
        weights=Path(),
        path=path,
        start=network.state_dict(),
        change=change,
    )
    return tuned


def _read(sources: Sequence[Source], *, most: int, seed: int) -> list[Exhibit]:
    """At most ``most`` decoded pictures of each class, of every source alike, in a drawn order."""
    rng = np.random.default_rng(seed)
    found: list[Exhibit] = []
    for label in (0, 1):
        own = [
            [one.files[place] for place in rng.permutation(len(one.files))]
            for one in sources
            if one.label == label
        ]
        taken = 0
        while taken < most and any(own):
            for files in own:
                if files and taken < most and (pixels := _decode(files.pop())) is not None:
                    found.append(Exhibit(pixels, label))
                    taken += 1
    return found


def _decode(path: Path) -> Pixels | None:
    """The picture of a file, at most 1600 pixels on its long side; None for what is none."""
    try:
        with open_media(path) as media:
            if media.info.kind is not Kind.IMAGE:
                return None
            return perturb.limit_side(media.image(), side=1600)
    except DeepfakeError as error:
        tqdm.write(f"left out: {error}", file=sys.stderr)
        return None


def _middle(pixels: Pixels, side: int) -> Pixels:
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
