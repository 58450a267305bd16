"""What generators write into their files, as tables.

A *name* is looked for only in the fields that software fills in by itself (``Software``,
``CreatorTool``, ``encoder`` …), never in a caption, a title or an edit history: people write about
Stable Diffusion under real photographs, and Photoshop lists Firefly among its tools. ``Lavf`` and
other encoders are no generators.

Sources: IPTC NewsCodes *Digital Source Type* (cv.iptc.org/newscodes/digitalsourcetype), IPTC Photo
Metadata 2025.1 (*AI System Used*), GB 45438-2025 and the TC260 practice guide (the ``AIGC`` label),
and the published behaviour of the generators.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

SOURCE_TYPES: Mapping[str, str] = {
    "trainedAlgorithmicMedia": "generated",
    "trainedAlgorithmicData": "generated",
    "compositeWithTrainedAlgorithmicMedia": "edited",
    "compositedWithTrainedAlgorithmicMedia": "edited",
    "digitalCapture": "capture",
    "computationalCapture": "capture",
    "multi-frameComputationalCapture": "capture",
    "negativeFilm": "capture",
    "positiveFilm": "capture",
}
"""Last part of a digital-source-type URI → what it declares. Other values (``algorithmicMedia``:
drawn by a program without training; ``digitalCreation``, ``humanEdits``, ``screenCapture`` …)
declare neither a trained generator nor a camera."""

NAMES: tuple[tuple[str, str], ...] = (
    ("Stable Diffusion", r"stable[ _-]?diffusion|\bsdxl\b|stability\.?[ _]?ai|dream ?studio"),
    ("Automatic1111", r"automatic1111|stable-diffusion-webui|\bsd\.next\b"),
    ("ComfyUI", r"comfy_?ui"),
    ("InvokeAI", r"invoke ?ai\b"),
    ("NovelAI", r"novel ?ai\b"),
    ("Fooocus", r"\bfooocus\b"),
    ("FLUX", r"black forest labs|\bflux[.-]?[12]\b"),
    ("Draw Things", r"\bdraw things\b"),
    ("Midjourney", r"\bmidjourney\b"),
    ("OpenAI", r"\bopen ?ai\b|\bdall[-·•? ]?e\b|\bchatgpt\b|\bgpt-?4o\b|\bgpt-image\b"),
    ("Sora", r"\bsora\b"),
    ("Adobe Firefly", r"\bfirefly\b"),
    (
        "Google AI",
        r"made with google ai|google (gemini|imagen|veo)|\bgemini\b|\bimagen[ -]?\d|\bveo\b",
    ),
    ("Grok", r"\bgrok\b|\bxai\b|\bx\.ai\b"),
    ("Ideogram", r"\bideogram\b"),
    ("Leonardo AI", r"\bleonardo[. ]?ai\b"),
    ("Bing Image Creator", r"bing image creator|microsoft designer"),
    ("Recraft", r"\brecraft\b"),
    ("Krea", r"\bkrea(\.ai| ai)?\b"),
    ("Playground", r"\bplayground ?(ai|\.com)\b"),
    ("Craiyon", r"\bcraiyon\b"),
    ("NightCafe", r"\bnight ?cafe\b"),
    ("Runway", r"\brunway(ml)?\b"),
    ("Pika", r"\bpika( ?labs|\.art)?\b"),
    ("Kling", r"\bkling( ?ai)?\b|\bkuaishou kling\b"),
    ("Luma", r"\bluma( ?ai|labs)\b|\bdream machine\b"),
    ("Hailuo", r"\bhailuo\b|\bminimax\b"),
    ("Seedance", r"\bseedance\b|\bjimeng\b|\bdreamina\b|\bdoubao\b|\bseedream\b"),
    ("HeyGen", r"\bheygen\b"),
    ("D-ID", r"\bd-id\b"),
    ("Synthesia", r"\bsynthesia\b"),
    ("Hedra", r"\bhedra\b"),
    ("ElevenLabs", r"\beleven ?labs\b"),
    ("Suno", r"\bsuno( ?ai)?\b"),
    ("Udio", r"\budio\b"),
    ("PlayHT", r"\bplay\.?ht\b"),
    ("Resemble AI", r"\bresemble\.?ai\b"),
    ("Murf", r"\bmurf(\.ai| ai)?\b"),
    ("Respeecher", r"\brespeecher\b"),
    ("Descript Overdub", r"\boverdub\b"),
    ("MusicGen", r"\bmusicgen\b|\baudiocraft\b"),
)

CREDITS: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    ("Google AI", "generated", re.compile(r"\s*(made|created|generated) with google ai\s*", re.I)),
    ("Google AI", "edited", re.compile(r"\s*edited with google ai\s*", re.I)),
)
"""Whole values that a service writes into the credit line: generator, what it declares, pattern."""

COMMENTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "Suno",
        re.compile(r"made with suno( studio)?; *created=\d{4}-[^;]{1,40}; *id=[0-9a-f-]{36}", re.I),
    ),
    ("Grok", re.compile(r"Signature: [A-Za-z0-9+/]{60,}={0,2}")),
)
"""Whole comments of a fixed form that a service writes by itself."""


@dataclass(frozen=True)
class Writer:
    """A program, service or device that leaves a trace in video files without generating them:
    ``pattern`` is found at the start of a value of one of the ``fields``.
    """

    name: str
    fields: frozenset[str]
    pattern: str
    is_device: bool = False

    def matches(self, field: str, text: str) -> bool:
        return field in self.fields and bool(re.match(self.pattern, text.lstrip(), re.I))


_ENCODERS = frozenset(["encoder", "encoded_by", "software", "writing_application", "user_data"])
_HANDLERS = frozenset(["handler_name", "encoder", "compressor_name"])


def _writer(name: str, pattern: str, fields: frozenset[str] = _ENCODERS, **kind: bool) -> Writer:
    return Writer(name, fields, pattern, **kind)


WRITERS: tuple[Writer, ...] = (
    _writer("FFmpeg", r"lav[fc]\d"),
    _writer("x264", r"x264 - core|(lavc[\d.]+ )?libx264"),
    _writer("x265", r"x265 \(build|(lavc[\d.]+ )?libx265"),
    _writer("XviD", r"xvid"),
    _writer("DivX", r"divx"),
    _writer("HandBrake", r"handbrake"),
    _writer("GPAC", r"gpac|mp4box"),
    _writer("Adobe Premiere Pro", r"adobe premiere"),
    _writer("Adobe After Effects", r"adobe after effects"),
    _writer("Adobe Media Encoder", r"adobe media encoder"),
    _writer("MainConcept", r"[\x00-\x1f#]*mainconcept", _HANDLERS),
    _writer("DaVinci Resolve", r"(blackmagic design )?davinci resolve"),
    _writer("Final Cut Pro", r"final cut"),
    _writer("iMovie", r"imovie"),
    _writer("Vegas", r"(magix |sony )?vegas"),
    _writer("Wondershare Filmora", r"wondershare|filmora"),
    _writer("Camtasia", r"(techsmith )?camtasia"),
    _writer("Shotcut or Kdenlive", r"mlt \d|shotcut|kdenlive"),
    _writer("OBS Studio", r"obs[ -]"),
    _writer("CapCut", r"capcut"),
    _writer("TikTok or CapCut", r"bytevehw"),
    _writer(
        "CapCut",
        r"(?s:.){0,3900}\"(product|source_type)\" ?: ?\"(vicut|lv\b)",
        frozenset(["lvmetainfo", "artwork", "com.apple.quicktime.artwork", "comment"]),
    ),
    _writer("TikTok or CapCut", r"vid:v\w{8,}", frozenset(["comment"])),
    _writer("Google (YouTube)", r"iso media file produced by google", _HANDLERS),
    _writer("Apple Core Media", r"core media (video|audio)", _HANDLERS),
    _writer("Android", r"\d", frozenset(["com.android.version"])),
    _writer("GoPro", r"gopro", _HANDLERS, is_device=True),
    _writer("DJI", r"dji", _HANDLERS, is_device=True),
    _writer("Sony", r"xavc", frozenset(["major_brand"]), is_device=True),
)
"""Traces of programs and services that anyone uses, and of cameras. ``Core Media`` is both what an
iPhone records with and what every export on a Mac goes through; ``Android`` likewise."""

_MIDJOURNEY_VERSION = re.compile(r"--(?:v|niji|version) ?\d")
_MIDJOURNEY_JOB = re.compile(r"\bJob ID: [0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_STEPS = re.compile(r"\bSteps: \d+, ")
_DREAM_OPTIONS = re.compile(r"(?:^|\s)-(s|S|W|H|C|A) ?[\w.]+")
_NODE = re.compile(r"\"class_type\"\s*:\s*\"([\w +().-]{1,80})\"")


def name_of(text: str) -> str | None:
    """The generator that a software field names, or None."""
    start = text[:2000]
    return next((name for name, pattern in NAMES if re.search(pattern, start, re.I)), None)


def source_type(uri: str) -> str:
    """The last part of a digital-source-type URI (or QCode), e.g. ``trainedAlgorithmicMedia``."""
    return re.split(r"[/:#]", uri.strip().rstrip("/"))[-1][:80]


def parse_json(text: str) -> Any:
    """JSON from a file, or None where it is broken, truncated or nested too deeply."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _nodes(value: Any) -> list[str] | None:
    value = parse_json(value) if isinstance(value, str) else value
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("nodes"), list) and "links" in value:
        listed, key = value["nodes"], "type"
    else:
        listed, key = list(value.values()), "class_type"
        listed = [node for node in listed if isinstance(node, dict) and "inputs" in node]
    return [str(n[key])[:80] for n in listed if isinstance(n, dict) and key in n] or None


def comfyui_nodes(text: str) -> list[str] | None:
    """Node types of a ComfyUI prompt or workflow, or of an object that holds one; else None.

    A truncated prompt is still recognised by its nodes.
    """
    value = parse_json(text)
    if isinstance(value, dict):
        return _nodes(value) or _nodes(value.get("prompt")) or _nodes(value.get("workflow"))
    if value is None and text.lstrip().startswith("{"):
        found = _NODE.findall(text)
        return found if len(found) > 1 and '"inputs"' in text else None
    return None


def aigc_label(text: str) -> dict[str, str] | None:
    """The fields of a TC260 ``AIGC`` label: ``Label`` is 1 generated, 2 possibly, 3 suspected.

    Accepts the bare object and the object wrapped in ``{"AIGC": …}``; None for anything else.
    """
    value = parse_json(text)
    if isinstance(value, dict) and isinstance(value.get("AIGC"), str):
        value = parse_json(value["AIGC"])
    elif isinstance(value, dict) and isinstance(value.get("AIGC"), dict):
        value = value["AIGC"]
    if not isinstance(value, dict) or str(value.get("Label")) not in ("1", "2", "3"):
        return None
    known = ("Label", "ContentProducer", "ProduceID", "ContentPropagator", "PropagateID")
    return {key: str(value[key])[:200] for key in known if key in value}


def bytedance_label(text: str) -> tuple[str, str] | None:
    """Who says that a video is generated, and what that declares, in the JSON that TikTok, CapCut
    and Dreamina write into videos; None where nothing does.

    ``aigc_label_type`` is 0 without a label, else the kind of label; ``is_use_ai_…_generation`` are
    the tools of CapCut; Dreamina names itself with ``exportType`` *generation*.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        return None
    data = value["data"] if isinstance(value.get("data"), dict) else value
    if data.get("product") == "dreamina" and data.get("exportType") == "generation":
        return "Dreamina", "generated"
    if value.get("aigc_label_type") in (1, 2, 3, "1", "2", "3"):
        return "Dreamina" if value.get("source_info") == "dreamina" else "TikTok", "generated"
    used = ("is_use_ai_image_generation", "is_use_ai_video_generation")
    if any(str(data.get(name, "0")) == "1" for name in used):
        return "CapCut", "edited"
    return None


def _is_automatic1111(text: str) -> bool:
    for steps in islice(_STEPS.finditer(text), 8):
        line = text[steps.start() : steps.start() + 2000]
        if "Sampler: " in line and ("CFG scale: " in line or "Seed: " in line):
            return True
    return False


def _is_dream(text: str) -> bool:
    """An InvokeAI ``Dream`` command: a quoted prompt, then its options."""
    prompt, quote, options = text.strip().rpartition('"')
    found = set(_DREAM_OPTIONS.findall(options[:2000]))
    return bool(quote) and prompt.startswith('"') and {"s", "S", "W", "H"} <= found


def parameters_in(text: str) -> Iterator[tuple[str, str]]:
    """Generators whose parameter block ``text`` is: pairs of name and what it declares."""
    if _is_automatic1111(text):
        yield "Automatic1111 or compatible", "edited" if "Mask blur: " in text else "generated"
    if _MIDJOURNEY_VERSION.search(text) and _MIDJOURNEY_JOB.search(text):
        yield "Midjourney", "generated"
    if _is_dream(text):
        yield "InvokeAI", "generated"
    value = parse_json(text)
    if not isinstance(value, dict):
        return
    if isinstance(value.get("sui_image_params"), dict):
        yield "SwarmUI", "generated"
    if {"steps", "sampler", "seed"} <= value.keys() and ("uc" in value or "scale" in value):
        yield "NovelAI", "generated"
    if {"prompt", "steps", "sampler"} <= value.keys() and "base_model" in value:
        yield "Fooocus", "generated"
    if "generation_mode" in value and ({"positive_prompt", "seed"} & value.keys()):
        yield "InvokeAI", "generated"
    if str(value.get("app_id", "")).startswith("invoke-ai/"):
        yield "InvokeAI", "generated"
    if {"c", "model", "sampler", "seed", "steps"} <= value.keys():
        yield "Draw Things", "generated"
    if str(value.get("type", "")).startswith("WanGP") and "prompt" in value:
        yield "WanGP", "generated"
