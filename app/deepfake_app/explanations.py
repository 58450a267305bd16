"""What the reason codes of a report mean and what to do, for the page.

The sentences of the analyzers say what was found in this file; these say what that is worth.
"""

from __future__ import annotations

from typing import NamedTuple

from deepfake.analyzers.claims import EXPLANATIONS


class Explanation(NamedTuple):
    """Two sentences for a person."""

    meaning: str
    remedy: str


_LARGER = "Ask for the original: forwarded copies are often shrunk."
_NOTHING = "There is nothing to do; the other evidence counts."
_ELSEWHERE = "Look for other evidence, such as who published it first or another recording."

_REMEDIES = {
    "image_too_small": _LARGER,
    "graphic_not_photo": "Cut the photo out of the screenshot, or look for it by itself.",
    "not_calibrated_for_video": "Take the score as a hint and look at the other evidence.",
    "no_face": _NOTHING,
    "face_too_small": _LARGER,
    "face_blurred": _LARGER,
    "face_turned_away": "Look for another moment or picture in which the face looks forward.",
    "too_many_faces": "Cut out the face that matters and examine that.",
    "too_few_frames": "Examine a longer part of the video.",
    "no_sound": _NOTHING,
    "no_speech": "Examine a part in which somebody speaks, where there is one.",
    "audio_too_short": "Examine a longer part of the recording.",
    "music": "Examine a part with speech alone.",
    "too_noisy": "Look for a better recording of the same speech.",
    "clipped": "Look for a recording that was not turned up so far.",
}
_OTHERS = {
    "no_metadata": Explanation(
        "The file says nothing of its origin. Most platforms remove such data when a file is "
        "uploaded, so this is no sign of anything.",
        "Ask for the original file, as the camera wrote it.",
    ),
    "no_manifest": Explanation(
        "The file carries no signed statement of its origin (C2PA). Most files have none.",
        _NOTHING,
    ),
    "too_small": Explanation(
        "The picture is too small to carry the invisible watermarks that are looked for.", _LARGER
    ),
    "unstable": Explanation(
        "The score changes a great deal when the picture is saved again, so it cannot be relied "
        "on either way.",
        "Examine the original, or a copy that was saved fewer times.",
    ),
    "between_limits": Explanation(
        "The score lies where genuine and synthetic files both occur.", _ELSEWHERE
    ),
    "mandatory_not_run": Explanation(
        "The detector that has to look before a file is cleared could not look at this one.",
        "The evidence below says why; mend that, and examine the file again.",
    ),
    "low_prior": Explanation(
        "The option Prior says that synthetic files are rare where this one comes from, so a false "
        "alarm is likelier than a find.",
        "Look for other evidence, or put Prior back to 0.5.",
    ),
    "evidence_disagrees": Explanation(
        "Two pieces of evidence say opposite things. One of them is wrong, and nothing here can "
        "tell which.",
        _ELSEWHERE,
    ),
    "nothing_applied": Explanation(
        "No detector is made for a file like this.", "Examine the original, or a longer part."
    ),
    "metadata_conclusive": Explanation(
        "The file names the generator that made it, or its parameters. Anybody can write such a "
        "text into any file.",
        "Take it as a statement of the file, and ask who wrote it there.",
    ),
    "provenance_conclusive": Explanation(
        "A signed statement inside the file (C2PA) says that a generative model made or edited it.",
        "Look at the signer in the evidence below: trust it as far as you trust that name.",
    ),
    "watermark_conclusive": Explanation(
        "The picture carries the invisible watermark that a generator puts into what it makes.",
        "Treat the picture as generated; only a copy of the mark onto another picture deceives.",
    ),
    "model": Explanation(
        "The detector for this evidence is missing or damaged on the server.",
        "Tell whoever runs this page; the verdict rests on the other evidence.",
    ),
    "backend": Explanation(
        "The detector for this evidence could not be run on the server.",
        "Tell whoever runs this page; the verdict rests on the other evidence.",
    ),
    "corrupt": Explanation(
        "A part of the file could not be read.", "Ask for the original, or export the file again."
    ),
    "too_large": Explanation(
        "A part of the file is larger than what is examined.", "Shrink or cut the file."
    ),
}
_SUBJECTS = {
    "image": "the whole picture",
    "face": "a face",
    "audio": "the voice",
    "video": "the motion",
    "lip-sync": "lips and voice together",
    "metadata": "what travels in the file",
    "provenance": "the signed statement of origin",
    "watermark": "the watermark",
}
_WORDS = {
    "synthetic": (
        "Traces of a generative model were found in {subject}, so clear that at most about 1 in "
        "100 genuine files shows the like.",
        "Take it seriously, but look for a second source before you act: 1 in 100 is not none.",
    ),
    "suspicious": (
        "Traces that may come from a generative model were found in {subject}; up to about 1 in 20 "
        "genuine files shows the like.",
        _ELSEWHERE,
    ),
    "authentic": (
        "Nothing that the detector knows was found in {subject}. A generator that it does not know "
        "leaves nothing that it knows.",
        "Do not take this for proof that the file is genuine.",
    ),
}


def explain(code: str) -> Explanation | None:
    """What ``code`` means; None for one that is not known here."""
    if code in _REMEDIES:
        return Explanation(EXPLANATIONS[code], _REMEDIES[code])
    if code in _OTHERS:
        return _OTHERS[code]
    source, _, word = code.rpartition("_")
    if source in _SUBJECTS and word in _WORDS:
        meaning, remedy = _WORDS[word]
        return Explanation(meaning.format(subject=_SUBJECTS[source]), remedy)
    return None
