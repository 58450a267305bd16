"""What was examined, drawn: the picture under its heat map, the frames of a video."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from deepfake.show.heatmaps import colour_scale
from deepfake.text import printable

from .pictures import Pictures, Tile

HEAT_STEPS = 6


def render_picture(pictures: Pictures, place: int) -> str:
    """The picture, with what was found drawn over it; ``place`` tells several on a page apart."""
    name = f"df-heat-{place}"
    return (
        f'<figure class="df-heat"><input type="checkbox" id="{name}" '
        'class="df-heat-toggle" checked>'
        f'<label for="{name}">Show the {pictures.over} over it</label>'
        f'<div class="df-stack"><img src="{pictures.plain}" alt="{pictures.subject} as it is">'
        f'<img class="df-over" src="{pictures.drawn}" '
        f'alt="{pictures.subject} with its {pictures.over}"></div>'
        f"{_heat_scale(pictures)}<figcaption>{pictures.subject}. {_explain(pictures)}</figcaption>"
        "</figure>"
    )


def _heat_scale(pictures: Pictures) -> str:
    """The colours of the heat map as a bar, over a chequered ground that shows their opacity."""
    if "heat map" not in pictures.over or pictures.limit is None:
        return ""
    colours, opacities = colour_scale(np.linspace(0, 1, HEAT_STEPS, dtype=np.float32))
    stops = ", ".join(
        f"rgb({red:.0f} {green:.0f} {blue:.0f} / {opacity:.2f})"
        for (red, green, blue), opacity in zip(colours, opacities, strict=True)
    )
    limit = pictures.limit
    return (
        '<div class="df-heat-scale" role="img" aria-label="Colours of the heat map: nothing below '
        f'{limit:.2f}, yellow from there, darker to violet at 1"><span>nothing below {limit:.2f}'
        f'</span><i style="background-image: linear-gradient(to right, {stops})"></i>'
        "<span>1.00</span></div>"
    )


def _explain(pictures: Pictures) -> str:
    words = []
    if "heat map" in pictures.over and pictures.limit is None:
        words.append("No part of it reaches the score from which it is suspicious by itself.")
    elif "heat map" in pictures.over:
        words.append(
            "Coloured parts are suspicious by themselves; the darker the colour, the higher the "
            "score. The map is coarse: it shows where to look, not the outline of what was changed."
        )
    if "faces" in pictures.over:
        words.append(
            "Faces are framed: red from the limit of synthetic, amber from that of suspicious, "
            "blue below, grey where they could not be judged."
        )
    return " ".join(words)


def render_tiles(tiles: Sequence[Tile]) -> str:
    """The most telling frames of a video; each can be saved."""
    if not tiles:
        return ""
    figures = "".join(
        f'<figure><a download="frame-{number}.jpg" href="{tile.url}" '
        f'aria-label="Save this frame"><img src="{tile.url}" alt="Frame at {_text(tile.caption)}">'
        f"</a><figcaption>{_text(tile.caption)}</figcaption></figure>"
        for number, tile in enumerate(tiles, 1)
    )
    return (
        '<section class="df-tiles-section"><h3>The most telling frames</h3>'
        f'<div class="df-tiles">{figures}</div></section>'
    )


def _text(value: str) -> str:
    return html.escape(printable(value, most=200), quote=True)
