"""Unsigned metadata: fingerprints of generators, AI labels, and what cameras write.

None of it is proof, since anyone can edit metadata. Three strengths:

* *claim* – a full parameter block, an IPTC source type or a TC260 label that says so. Hardly anyone
  labels a genuine file as generated, but whoever wants to discredit one can;
* *hint* – only the name of a generator in a field that software fills in: such a program can also
  have opened a photograph;
* *note* – worth saying and no more: a workflow without a sampler.

A camera's Exif is a claim too, of an original, and a weak one: it can be copied onto anything, so
it never lowers a score. No finding has a score, because how often such claims are false is unknown.

Captions, titles, keywords and edit histories are never searched for names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..reasons import Code
from ..text import printable
from ..traces import generators
from ..traces.encoders import Encoding, describe_encoding
from ..types import Declares, Evidence, Kind, Status, Weight

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..media.opening import Media
    from ..settings import DetectOptions

_STRENGTHS = {"claim": Weight.CLAIM, "hint": Weight.HINT, "note": Weight.SCORE}
_SOFTWARE_FIELDS = frozenset(
    [
        "software",
        "processingsoftware",
        "creatortool",
        "encoder",
        "encoded_by",
        "tsse",
        "tenc",
        "isft",
        "©too",
        "©swr",
        "tool",
        "creation_tool",
        "writing_application",
        "com.apple.quicktime.software",
        "iptc.program",
    ]
)
_COMMENT_FIELDS = frozenset(["comment", "comm", "©cmt", "icmt", "description", "usercomment"])
_PARAMETER_FIELDS = frozenset(
    [
        "parameters",
        "comment",
        "usercomment",
        "dream",
        "sd-metadata",
        "invokeai_metadata",
        "prompt",
        "workflow",
        "generation_data",
        "©cmt",
        "comm",
        "icmt",
    ]
)
_SERVICE_FIELDS = frozenset(
    ["aigc_info", "lvmetainfo", "artwork", "information", "com.apple.quicktime.artwork", "comment"]
)
_OWN_KEYS = {
    "invokeai_metadata": "InvokeAI",
    "invokeai_graph": "InvokeAI",
    "fooocus_scheme": "Fooocus",
}
"""Keys of PNG text that one generator alone uses."""
_GRAPH_FIELDS = _PARAMETER_FIELDS | {"make", "model", "imagedescription", "description"}
_ADOBE_EDITORS = re.compile(r"photoshop|lightroom|illustrator|premiere|express", re.IGNORECASE)
_PHONES = frozenset({"Android", "Apple Core Media"})
"""What phones record with and what other programs export through."""
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_SAMPLERS = re.compile(r"sampler", re.IGNORECASE)
_AIGC_WORDS = {"1": "AI-generated", "2": "possibly AI-generated", "3": "suspected AI-generated"}


@dataclass(frozen=True)
class Finding:
    """One trace of how the file was made. ``sentence`` is the claim for a moderator."""

    strength: str
    generator: str | None
    declares: str | None
    field: str
    sentence: str


class Metadata:
    """Reads the metadata of a file."""

    name = "metadata"
    kinds = frozenset(Kind)

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        return judge(media.metadata())


def judge(metadata: dict[str, Any]) -> list[Evidence]:
    """Evidence from the result of ``container.read_metadata``: generators first, then the camera.

    All traces of generators become one piece of evidence, led by the strongest; the others are in
    its ``details["findings"]``.
    """
    if not metadata:
        return [
            Evidence(
                source=Metadata.name,
                status=Status.SKIPPED,
                reason=Code.NO_METADATA,
                claim="The file has no metadata, which says nothing about how it was made.",
            )
        ]
    order = list(_STRENGTHS)
    findings = sorted(
        dict.fromkeys(find_generators(metadata)), key=lambda item: order.index(item.strength)
    )
    encoding = describe_encoding(metadata)
    evidence = [_from_findings(findings, metadata, encoding)]
    camera = find_camera(metadata)
    if camera:
        evidence.append(_from_camera(camera, metadata, encoding))
    return evidence


def _from_findings(
    findings: list[Finding], metadata: dict[str, Any], encoding: Encoding | None
) -> Evidence:
    details: dict[str, Any] = {"declares": None, "generator": None, "strength": None}
    for key in ("problems", "truncated"):
        if key in metadata:
            details[key] = list(metadata[key])[:16]
    if encoding:
        details["encoding"] = dict(encoding.details)
    if not findings:
        return Evidence(
            source=Metadata.name,
            status=Status.OK,
            claim="The metadata hold no trace of a known generator; that means nothing, because "
            "most services remove it." + _word_writers(encoding),
            details=details,
        )
    first = findings[0]
    details |= {
        "declares": first.declares,
        "generator": first.generator,
        "strength": first.strength,
        "findings": [
            {
                "strength": item.strength,
                "generator": item.generator,
                "declares": item.declares,
                "field": item.field,
            }
            for item in findings[:12]
        ],
    }
    return Evidence(
        source=Metadata.name,
        status=Status.OK,
        claim=first.sentence,
        weight=_STRENGTHS[first.strength],
        declares=Declares(first.declares) if first.declares else None,
        details=details,
    )


def _word_writers(encoding: Encoding | None) -> str:
    """What the name of a general-purpose program shows, and no more."""
    if encoding is None or not (encoding.writers or encoding.software):
        return ""
    names = encoding.writers or (str(encoding.software),)
    listed = " and ".join(filter(None, [", ".join(names[:3][:-1]), names[:3][-1]]))
    return (
        f" The file was written with {listed}, which shows only that it is no camera original."
        if set(names) - _PHONES or encoding.software
        else ""
    )


def find_generators(metadata: dict[str, Any]) -> Iterator[Finding]:
    """Every trace of a generator or an AI label in the metadata of one file."""
    yield from _source_types(metadata)
    for field, name, text in fields(metadata):
        yield from _label(field, name, text)
        yield from _parameters(field, name, text)
        yield from _named(field, name, text)
        yield from _service_label(field, name, text)
    yield from _fixed_texts(metadata)
    if "kling-ai" in metadata.get("encoding", {}).get("video_user_data", ""):
        yield _service("Kling", "generated", "encoding.video_user_data")


def fields(metadata: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Every text: full name such as ``exif.Software``, lower-case short name, value."""
    for group in ("text", "exif", "tags"):
        for name, value in metadata.get(group, {}).items():
            short = re.sub(r"^(video|audio)\d+:", "", name).lower()
            yield f"{group}.{name}", short.removeprefix("tc260:"), value
    for name, value in metadata.get("iptc", {}).items():
        yield f"iptc.{name}", f"iptc.{name}".lower(), value
    for name, values in metadata.get("xmp_properties", {}).items():
        if name.partition(":")[0] not in ("stEvt", "stRef"):
            for value in values:
                yield f"xmp.{name}", name.partition(":")[2].lower(), value
    if "comment" in metadata:
        yield "comment", "comment", metadata["comment"]


def _source_types(metadata: dict[str, Any]) -> Iterator[Finding]:
    for uri in metadata.get("iptc_digital_source_type", []):
        kind = generators.source_type(uri)
        declares = generators.SOURCE_TYPES.get(kind)
        if declares not in ("generated", "edited"):
            continue
        how = "made by" if declares == "generated" else "edited by, or composed with,"
        yield Finding(
            "claim",
            None,
            declares,
            "xmp.Iptc4xmpExt:DigitalSourceType",
            f"The metadata declare that the file was {how} a generative model (IPTC source type "
            f"{printable(kind, most=50)}); the declaration is not signed.",
        )


def _label(field: str, name: str, text: str) -> Iterator[Finding]:
    if name not in ("aigc", "usercomment", "comment"):
        return
    label = generators.aigc_label(text)
    if label is None or (name != "aigc" and "ContentProducer" not in label):
        return
    producer = printable(label.get("ContentProducer", ""), most=60)
    by = f" of {producer}" if producer else ""
    yield Finding(
        {"1": "claim", "2": "hint"}.get(label["Label"], "note"),
        producer or None,
        "generated" if label["Label"] == "1" else None,
        field,
        f"The file carries the Chinese AIGC label{by} (TC260, GB 45438): "
        f"{_AIGC_WORDS[label['Label']]} content.",
    )


def _parameters(field: str, name: str, text: str) -> Iterator[Finding]:
    found: list[tuple[str, str]] = []
    if name in _PARAMETER_FIELDS:
        found = list(generators.parameters_in(text))
    elif name in ("description", "imagedescription", "caption"):
        found = [item for item in generators.parameters_in(text) if item[0] == "Midjourney"]
    if name in _OWN_KEYS and text.strip():
        found.append((_OWN_KEYS[name], "generated"))
    for generator, declares in dict.fromkeys(found):
        yield Finding(
            "claim",
            generator,
            declares,
            field,
            f"The file holds the generation parameters of {generator}, which that program writes "
            f"into the pictures it {'makes' if declares == 'generated' else 'edits'}.",
        )
    if name in _GRAPH_FIELDS:
        graph = re.sub(r"^\s*(?:prompt|workflow)\s*:\s*", "", text, count=1, flags=re.IGNORECASE)
        yield from _comfyui(field, graph)


def _comfyui(field: str, text: str) -> Iterator[Finding]:
    nodes = generators.comfyui_nodes(text)
    if nodes is None:
        return
    if not any(_SAMPLERS.search(node) for node in nodes):
        yield Finding(
            "note",
            "ComfyUI",
            None,
            field,
            "The file was saved by ComfyUI with a workflow that has no sampler: it was processed "
            "there, not necessarily generated.",
        )
        return
    loads = any(node.startswith("LoadImage") for node in nodes)
    how = "edited or generated from a given picture" if loads else "generated"
    yield Finding(
        "claim",
        "ComfyUI",
        "edited" if loads else "generated",
        field,
        f"The file holds the ComfyUI workflow ({len(nodes)} nodes) by which it was {how}.",
    )


def _named(field: str, name: str, text: str) -> Iterator[Finding]:
    if name in ("aisystemused", "iptc4xmpext:aisystemused") and text.strip():
        system = printable(text, most=60)
        yield Finding(
            "hint",
            generators.name_of(text) or system,
            "generated",
            field,
            f"The metadata name {system} as the AI system used (IPTC 2025.1); this is not signed.",
        )
    if name not in _SOFTWARE_FIELDS:
        return
    generator = generators.name_of(text)
    if generator is None or (generator == "Adobe Firefly" and _ADOBE_EDITORS.search(text)):
        return
    yield Finding(
        "hint",
        generator,
        "generated",
        field,
        f"The metadata name {generator} as the software that wrote the file "
        f"({printable(field, most=40)}: {printable(text, most=60)}); a name alone says little.",
    )


def _service_label(field: str, name: str, text: str) -> Iterator[Finding]:
    if name not in _SERVICE_FIELDS:
        return
    service, declares = generators.bytedance_label(text) or ("", "")
    if service == "Dreamina":
        yield _service(service, declares, field)
    elif service:
        what = (
            "the label of TikTok for AI-generated content, which the uploader or the service sets"
            if declares == "generated"
            else f"the note that generative tools of {service} were used"
        )
        yield Finding("hint", service, declares, field, f"The metadata carry {what}; unsigned.")


def _fixed_texts(metadata: dict[str, Any]) -> Iterator[Finding]:
    """Credits and comments that a service writes word for word."""
    for field, name, text in fields(metadata):
        if name in ("credit", "iptc.credit"):
            for generator, declares, pattern in generators.CREDITS:
                if pattern.fullmatch(text[:200]):
                    yield _service(generator, declares, field)
        if name in _COMMENT_FIELDS:
            for generator, pattern in generators.COMMENTS:
                if generator != "Grok" and pattern.fullmatch(text.strip()[:500]):
                    yield _service(generator, "generated", field)
    exif = metadata.get("exif", {})
    signature = dict(generators.COMMENTS)["Grok"]
    description, artist = exif.get("ImageDescription", ""), exif.get("Artist", "")
    if signature.fullmatch(description.strip()[:2000]) and _UUID.fullmatch(artist.strip()):
        yield _service("Grok", "generated", "exif.ImageDescription")


def _service(generator: str, declares: str, field: str) -> Finding:
    how = "made" if declares == "generated" else "edited"
    return Finding(
        "hint",
        generator,
        declares,
        field,
        f"The metadata carry the fixed text by which {generator} marks what was {how} with it; "
        "this is not signed.",
    )


def find_camera(metadata: dict[str, Any]) -> str | None:
    """Maker and model, where the file has the Exif of an exposure, or the tags of a phone video."""
    exif, tags = metadata.get("exif", {}), metadata.get("tags", {})
    maker, model = exif.get("Make", ""), exif.get("Model", "")
    exposure = {"ExposureTime", "FNumber", "ISOSpeedRatings", "FocalLength", "ShutterSpeedValue"}
    if len(exposure & exif.keys()) < 2:
        named = {name.rpartition(":")[2].lower(): value for name, value in tags.items()}
        maker = _first(
            named, "com.apple.quicktime.make", "com.android.manufacturer", "make", "©mak"
        )
        model = _first(named, "com.apple.quicktime.model", "com.android.model", "model", "©mod")
        maker = maker or ("Android" if model else "")
    maker, model = printable(maker, most=40), printable(model, most=40)
    if not maker or not model:
        return None
    return model if model.lower().startswith(maker.lower()) else f"{maker} {model}"


def _first(values: dict[str, str], *names: str) -> str:
    return next((values[name] for name in names if values.get(name)), "")


def _from_camera(camera: str, metadata: dict[str, Any], encoding: Encoding | None) -> Evidence:
    """A camera's tags; a file that software encoded or wrote is not what the camera recorded."""
    written = set(encoding.writers) - _PHONES if encoding else set()
    claim = (
        f"The metadata are those of a camera original ({camera}); this is weak evidence, "
        "because they can be copied onto any file."
    )
    if encoding and encoding.software:
        claim = (
            f"The metadata name a camera ({camera}), but {encoding.software} encoded the file, "
            "which hardly any camera uses: it was encoded again, or the tags were added."
        )
    elif written:
        claim = (
            f"The metadata name a camera ({camera}), but {min(written)} wrote the file: it is not "
            "the file that the camera recorded, or the tags were added."
        )
    return Evidence(
        source=Metadata.name,
        status=Status.OK,
        claim=claim,
        weight=Weight.CLAIM,
        declares=Declares.CAPTURE,
        details={
            "camera": camera,
            "declares": "capture",
            "strength": "contradicted" if written or (encoding and encoding.software) else "weak",
            "lens": printable(metadata.get("exif", {}).get("LensModel", ""), most=60) or None,
            "has_maker_note": bool(metadata.get("has_maker_note")),
            "has_thumbnail": bool(metadata.get("has_thumbnail")),
        },
    )
