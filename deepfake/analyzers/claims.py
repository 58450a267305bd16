"""How the neural analyzers put a score into words."""

from __future__ import annotations

from ..types import Evidence, FaceFinding, OperatingPoints, Status

EXPLANATIONS = {
    "image_too_small": "The picture is too small for the detector.",
    "graphic_not_photo": "It looks like a graphic or a screenshot, which the detector was not "
    "made for.",
    "not_calibrated_for_video": "The detector was calibrated on still pictures.",
    "no_face": "No face was found.",
    "face_too_small": "The face is too small to be judged.",
    "face_blurred": "The face is too blurred to be judged.",
    "face_turned_away": "The face is turned too far away to be judged.",
    "too_many_faces": "Only the eight largest faces were judged.",
    "too_few_frames": "There are too few frames to judge the motion.",
    "no_sound": "The video has no sound track.",
    "no_speech": "No speech was found in the sound, and only speech can be judged.",
    "audio_too_short": "There is too little sound to judge.",
    "music": "There is music or singing in the sound, which the detector was not made for.",
    "too_noisy": "The noise is nearly as strong as the speech and hides traces.",
    "clipped": "Much of the sound is clipped, which hides and imitates traces.",
}

ONLY_MUSIC = "No speech was found in the sound, only music, and only speech can be judged."


def word_score(
    score: float,
    points: OperatingPoints,
    *,
    where: str,
    caution: str | None,
    traces: str = "of a generative model",
) -> str:
    """One sentence for a score at its operating points, and one for a caution."""
    if score >= points.synthetic:
        found = "Clear traces"
    elif score >= points.suspicious:
        found = "Possible traces"
    elif score < points.authentic:
        found = "No traces"
    else:
        found = "Unclear traces"
    sentence = f"{found} {traces} in {where} (score {score:.2f})."
    return f"{sentence} {EXPLANATIONS[caution]}" if caution else sentence


def skip(
    source: str, reason: str, *, claim: str | None = None, faces: tuple[FaceFinding, ...] = ()
) -> Evidence:
    """Evidence that could not be had, and why."""
    return Evidence(
        source=source,
        status=Status.SKIPPED,
        reason=reason,
        claim=claim or EXPLANATIONS[reason],
        faces=faces,
    )
