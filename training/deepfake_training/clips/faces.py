"""The recipe of the full tier of the ``face`` slot: faces of clips, by the network of pictures.

Clips → the largest face of six frames, upright and as large as the network sees it → its features,
as it is and after a random history → a linear layer that is drawn towards that of pictures, on the
clips in which a face was replaced, re-enacted or made to speak and on genuine ones, for every fold
and on all → logits out of fold → calibration, bundle and card. The quick tier stays what it is, and
judges pictures; of a video the full tier judges some sightings of every person.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from deepfake.bundle import WEIGHTS, Bundle
from deepfake.content.faces import BundleFinder, Finder, why_not_face
from deepfake.content.inputs import STEP_SECONDS
from deepfake.engine.engine import Engine
from deepfake.errors import DeepfakeError
from deepfake.media.opening import open_media
from deepfake.preprocess import FacePreprocess, Pixels, shrink
from deepfake.settings import Settings
from deepfake.trust.registry import newest_bundles

from ..assess import assess, told
from ..card import write_card
from ..export import Trained, metrics_to_dict
from ..export_large import linear_weights, write_full_bundle
from ..files import read_times, timed, write_arrays
from ..fitting import prepare_process
from ..manifests import data_sha256
from ..recipes import Recipe
from ..records import write_records
from .families import tabulate_families
from .features import Features, Trunk, change, load_one_scale, open_trunk, run_blocks
from .frames import BURSTS, FRAMES, crop_part
from .layers import Fitted, Seen, fit_layers
from .material import Clip, read_clips

FAMILIES = ("talking head", "lip-sync", "face swap")
"""The families of clips whose faces are learnt from; whole clips are a matter of their frames."""
_LOOKS = {"clean": False, "changed": True}
_PLACES = 3


@dataclass(frozen=True, kw_only=True)
class FaceTierRecipe(Recipe):
    """As :class:`deepfake_training.clips.recipe.FrameRecipe`, with the crop of a face."""

    threads: int
    workers: int
    folds: int
    seed: int
    material: tuple[str, ...]
    boxes: str
    image: str
    penalty: float
    preprocess: FacePreprocess


def make_tier(recipe: FaceTierRecipe, *, data: Path, models: Path, output: Path) -> Bundle:
    """Run the recipe, or what an interrupted run left of it: the bundle in ``models``, from that of
    pictures there, its records in ``output``.
    """
    prepare_process(recipe.threads)
    clips = read_clips(
        [data / name for name in recipe.material], boxes=data / recipe.boxes, folds=recipe.folds
    )
    fitted = fit_faces(recipe, clips, models=models, output=output)
    facts = {
        "wall_seconds": round(sum(read_times(output).values())),
        "machine": f"{platform.machine()} CPU, {recipe.workers} workers of one thread",
        "tried": recipe.tried,
    }
    return write_tier(recipe, clips, fitted, facts=facts, models=models, output=output)


def fit_faces(
    recipe: FaceTierRecipe, clips: Sequence[Clip], *, models: Path, output: Path
) -> Fitted:
    """The full tier, from the network of pictures in ``models``, before it is a bundle; faces and
    features that an earlier run left in ``output`` are taken from there.
    """
    source, network = load_one_scale(Bundle.read(models / f"{recipe.image}-large"))
    seen = see_faces(recipe, clips, source, network, models=models, output=output)
    return fit_layers(network, source, clips, seen, penalty=recipe.penalty)


def see_faces(
    recipe: FaceTierRecipe,
    clips: Sequence[Clip],
    source: Bundle,
    network: Any,
    *,
    models: Path,
    output: Path,
    views: Sequence[str] = tuple(_LOOKS),
) -> Seen:
    """The features that the ``network`` of a bundle of pictures has of the faces of genuine clips
    and of those of :data:`FAMILIES`, in ``views``.
    """
    with timed("faces", output):
        finder = newest_bundles(models)["face-finder"]
        keep_faces(clips, recipe, finder=finder, folder=output / "faces")
    trunk = open_trunk(source, network.trunk, output / "trunk.onnx", precision="bf16")
    with timed("features", output):
        seen = {
            view: _measure(trunk, clips, recipe, changed=_LOOKS[view], view=view, output=output)
            for view in views
        }
    return seen


def _is_about(clip: Clip) -> bool:
    return not clip.label or clip.family in FAMILIES


def write_tier(
    recipe: FaceTierRecipe,
    clips: Sequence[Clip],
    fitted: Fitted,
    *,
    facts: dict[str, Any],
    models: Path,
    output: Path,
) -> Bundle:
    """The tier as a bundle in ``models``, calibrated on its records, which ``output`` keeps."""
    records, source = fitted.records, fitted.source
    write_records(output / "out_of_fold.jsonl", records)
    each_source = recipe.calibration.each_source
    calibration, sources, views, _ = assess(records, each_source=each_source)
    families = tabulate_families(records, {clip.name: clip.family for clip in clips})
    facts = {
        "seed": recipe.seed,
        "data_sha256": data_sha256(clip.item for clip in clips),
        "clips with a face": len({record.path for record in records}),
        "groups": len({record.group for record in records}),
        "penalty": recipe.penalty,
        "network": f"of {source.name}, its last layer fitted anew",
        **facts,
    }
    bundle = write_full_bundle(
        Trained(
            network=fitted.network,
            network_name=source.network,
            network_options=dict(source.network_options),
            preprocess=recipe.preprocess,
            records=records,
            limits=recipe.limits,
            facts=facts,
        ),
        name=recipe.name,
        calibration=calibration,
        metrics=metrics_to_dict(sources=told(sources), views=views, families=families),
        quantised=linear_weights(fitted.network),
        folder=models / recipe.name,
        shared=source.folder / WEIGHTS,
    )
    write_card(
        bundle,
        sources=told(sources),
        views=views,
        families=families,
        text=asdict(recipe.card),
        command=f"deepfake recipe evaluate training/configs/{recipe.name}.toml",
        each_source=each_source,
    )
    return bundle


def keep_faces(
    clips: Sequence[Clip], recipe: FaceTierRecipe, *, finder: Bundle, folder: Path
) -> None:
    """Write the faces of genuine clips and of those of :data:`FAMILIES`; goes on where an earlier
    run stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [number for number, clip in enumerate(clips) if _is_about(clip)]
    left = [number for number in wanted if not _place(folder, number).exists()]
    running = Parallel(n_jobs=recipe.workers, return_as="generator_unordered")(
        delayed(_keep)(clips[number], recipe.preprocess, finder, _place(folder, number))
        for number in left
    )
    done = len(wanted) - len(left)
    for _ in tqdm(running, initial=done, total=len(wanted), desc="faces", mininterval=10):
        pass


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npz"


def _keep(clip: Clip, align: FacePreprocess, finder: Bundle, path: Path) -> None:
    engine = Engine(Settings(threads=1), active={"face-finder": finder})
    try:
        faces = find_faces(clip, BundleFinder(engine), align)
    except DeepfakeError:
        faces = []
    finally:
        engine.close()
    side = align.side_pixels
    found = np.stack(faces) if faces else np.zeros((0, side, side, 3), np.uint8)
    write_arrays(path, faces=found)


def find_faces(clip: Clip, finder: Finder, align: FacePreprocess) -> list[Pixels]:
    """The largest face of the first and the third frame of bursts spread over a clip, where it can
    be judged; raises as :meth:`deepfake.media.opening.Media.bursts`.
    """
    faces = []
    with open_media(clip.item.path) as media:
        frames = media.bursts(most=BURSTS, frames=FRAMES, step_seconds=STEP_SECONDS)
        for _, group in groupby(frames, key=lambda frame: frame.burst):
            for frame in list(group)[::2]:
                pixels = crop_part(frame.pixels, clip.part)
                for face in finder.find(pixels)[:1]:
                    crop = align.crop(pixels, face.points)
                    if not why_not_face(face, crop, least_pixels=0):
                        faces.append(crop)
    return faces


def _measure(
    trunk: Trunk,
    clips: Sequence[Clip],
    recipe: FaceTierRecipe,
    *,
    changed: bool,
    view: str,
    output: Path,
) -> list[dict[int, Features]]:
    """Features of at most :data:`_PLACES` faces of every clip, spread over it."""

    def see(number: int) -> dict[str, Features]:
        if not _is_about(clips[number]):
            return {}
        with np.load(_place(output / "faces", number)) as stored:
            faces = list(stored["faces"])
        spread = np.linspace(0, len(faces) - 1, min(_PLACES, len(faces))).round().astype(int)
        chosen = [faces[place] for place in spread]
        if changed and chosen:
            side = recipe.preprocess.side_pixels
            rng = np.random.default_rng([recipe.seed, number])
            chosen = [shrink(one, side, side) for one in change(chosen, rng)]
        return {str(place): trunk.see(face[None]) for place, face in enumerate(chosen)}

    found = run_blocks(
        see, count=len(clips), folder=output / "features" / view, workers=recipe.workers
    )
    return [
        {number: values[str(place)] for number, values in found.items() if str(place) in values}
        for place in range(_PLACES)
    ]
