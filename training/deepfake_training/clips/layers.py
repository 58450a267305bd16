"""The last layers of the networks of pictures, taken as heads and put back; records of clips."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deepfake.bundle import Bundle
from deepfake.networks.pictures import MobilePicture

from ..records import FileLogits, round_logits
from ..wide.head import Head, apply_head, fit_head
from ..wide.tokens import Tokens
from .material import Clip

Features = npt.NDArray[np.float16]
Seen = Mapping[str, Sequence[Mapping[int, Features]]]
"""By view, for each of its looks, the features (features,) of every clip that has them."""


@dataclass(frozen=True)
class Fitted:
    """A network of ``source`` with a new last layer, before it is a bundle: ``heads`` has that of
    each fold, which saw nothing of it, and under -1 that of all clips, which is in the ``network``;
    ``records`` tell what the network of each fold says of its clips, one for a clip and view.
    """

    source: Bundle
    network: Any
    heads: Mapping[int, Head]
    records: list[FileLogits]

    def without(self, fold: int) -> Fitted:
        """As it would be had there been no clips of a fold."""
        network = copy.deepcopy(self.network)
        set_last_layer(network, self.heads[fold])
        records = [one for one in self.records if one.fold != fold]
        return Fitted(self.source, network, {-1: self.heads[fold]}, records)


def fit_layers(
    network: Any, source: Bundle, clips: Sequence[Clip], seen: Seen, *, penalty: float
) -> Fitted:
    """Fit a last layer for every fold and on all clips, and put that of all into the network."""
    heads = fit_heads(network, clips, seen, penalty=penalty)
    records = record_clips(clips, seen, heads)
    set_last_layer(network, heads[-1])
    return Fitted(source, network, heads, records)


def fit_heads(
    network: Any,
    clips: Sequence[Clip],
    seen: Seen,
    *,
    penalty: float,
    known: npt.NDArray[np.bool_] | None = None,
) -> dict[int, Head]:
    """A head near to the last layer of the network for every fold, on the other ones, and under -1
    that on all clips. Of the clips only those that are ``known`` (clips,) are learnt from.
    """
    tokens = gather(seen)
    near, homes = last_layer(network, tokens), np.array([clip.fold for clip in clips])
    learnt = np.ones(len(clips), np.bool_) if known is None else known
    return {
        fold: fit_head(
            tokens,
            clips,
            chosen=((homes != fold) & learnt)[tokens.files],
            penalty=penalty,
            near=near,
        )
        for fold in (*sorted(set(homes.tolist())), -1)
    }


def gather(seen: Seen) -> Tokens:
    """What was seen of all clips in all views as one table."""
    rows = [
        (number, values, view != "clean")
        for view, found in seen.items()
        for one in found
        for number, values in sorted(one.items())
    ]
    return Tokens(
        values=np.stack([values for _, values, _ in rows]),
        files=np.array([number for number, _, _ in rows], np.int64),
        changed=np.array([changed for _, _, changed in rows], np.bool_),
    )


def last_layer(network: Any, tokens: Tokens) -> Head:
    """The layer that a network of pictures has, on features as a head takes them."""
    if not isinstance(network, MobilePicture):
        return (
            network.mean.numpy(),
            network.deviation.numpy(),
            network.decide.weight.detach().numpy()[0],
            float(network.decide.bias.detach()),
        )
    values = tokens.values.astype(np.float32)
    mean, deviation = values.mean(axis=0), values.std(axis=0) + 1e-3
    weight = network.trunk.classifier.weight.detach().numpy()[0]
    bias = float(network.trunk.classifier.bias.detach())
    return mean, deviation, weight * deviation, bias + float(mean @ weight)


def set_last_layer(network: Any, head: Head) -> None:
    """Put a head that is near to :func:`last_layer` in its place."""
    mean, deviation, weight, bias = head
    layer = network.trunk.classifier if isinstance(network, MobilePicture) else network.decide
    if isinstance(network, MobilePicture):
        weight = weight / deviation
        bias -= float(mean @ weight)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight))[None])
        layer.bias.fill_(bias)


def record_clips(clips: Sequence[Clip], seen: Seen, heads: Mapping[int, Head]) -> list[FileLogits]:
    """The logits of every clip and view by the head that never saw its group."""
    said = {
        view: [
            {n: apply_head(values[None], heads[clips[n].fold]) for n, values in one.items()}
            for one in found
        ]
        for view, found in seen.items()
    }
    return record_values(clips, said)


def record_values(
    clips: Sequence[Clip], said: Mapping[str, Sequence[Mapping[int, npt.NDArray[Any]]]]
) -> list[FileLogits]:
    """A record for every clip and view, with the value (1,) of each of its looks that has one."""
    return [
        FileLogits(
            path=clips[number].name,
            label=clips[number].label,
            source=clips[number].source,
            group=clips[number].group,
            fold=clips[number].fold,
            view=view,
            logits=round_logits(float(one[number][0]) for one in found if number in one),
        )
        for view, found in said.items()
        for number in sorted(set().union(*found))
    ]
