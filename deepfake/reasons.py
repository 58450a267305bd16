"""Every code that a report or an error can carry: one row each, with its meaning and its remedy.

The sentences of the analyzers and of the errors say what was found in one file; these say what that
is worth and what to do. The page shows them, ``deepfake explain`` prints them, and
the page of codes in the documentation is made of them. A code keeps its text for ever: reports are
stored. One that is no longer given stays here, marked as former.
"""

from __future__ import annotations

from enum import StrEnum


class Group(StrEnum):
    """What the codes of a group tell; the value is a heading."""

    VERDICT = "reasons of a verdict"
    CAUTION = "cautions about a score"
    NOT_JUDGED = "why something was not judged"
    FILE = "errors of a file"
    SERVICE = "answers of the service that are no reports"
    INSTALLATION = "errors of the installation, or of how it was called"


_Row = tuple[Group, str, str]

_LARGER = "Ask for the original: forwarded copies are often shrunk."
_ORIGINAL = "Ask for the original, or export the file again."
_NOTHING = "There is nothing to do; the other evidence counts."
_ELSEWHERE = "Look for other evidence, such as who published it first or another recording."
_DOCTOR = "Run deepfake doctor where the file was examined, or tell whoever runs the page."
_HOSTILE = "Treat the file as hostile; open it with nothing that is not confined."


def _clear(subject: str) -> _Row:
    return (
        Group.VERDICT,
        f"Traces of a generative model were found in {subject}, so clear that at most about 1 in "
        "100 genuine files shows the like.",
        "Take it seriously, but look for a second source before you act: 1 in 100 is not none.",
    )


def _possible(subject: str) -> _Row:
    return (
        Group.VERDICT,
        f"Traces that may come from a generative model were found in {subject}; up to about 1 in "
        "20 genuine files shows the like.",
        _ELSEWHERE,
    )


def _none(subject: str) -> _Row:
    return (
        Group.VERDICT,
        f"Nothing that the detector knows was found in {subject}. A generator that it does not "
        "know leaves nothing that it knows.",
        "Do not take this for proof that the file is genuine.",
    )


def _believed(who: str) -> _Row:
    return (
        Group.VERDICT,
        f"{who} says that a generative model made or edited the file. Anybody can write that, but "
        "this examination was told to believe it (trust_claims).",
        "Believe it as far as you know who writes into your files; else examine without that "
        "option.",
    )


class Code(StrEnum):
    """A stable word for machines, with its ``group``, ``meaning`` and ``remedy`` for people.

    A member is the text that stands in JSON. ``former`` ones are only in older reports.
    """

    group: Group
    meaning: str
    remedy: str
    former: bool

    def __new__(
        cls, text: str, group: Group, meaning: str, remedy: str, former: bool = False
    ) -> Code:
        code = str.__new__(cls, text)
        code._value_ = text
        code.group, code.meaning, code.remedy, code.former = group, meaning, remedy, former
        return code

    # Reasons of a verdict. Fusion puts the first words together from source and finding.
    IMAGE_SYNTHETIC = "image_synthetic", *_clear("the whole picture")
    IMAGE_SUSPICIOUS = "image_suspicious", *_possible("the whole picture")
    IMAGE_AUTHENTIC = "image_authentic", *_none("the whole picture")
    FACE_SYNTHETIC = "face_synthetic", *_clear("a face")
    FACE_SUSPICIOUS = "face_suspicious", *_possible("a face")
    FACE_AUTHENTIC = "face_authentic", *_none("a face")
    AUDIO_SYNTHETIC = "audio_synthetic", *_clear("the voice")
    AUDIO_SUSPICIOUS = "audio_suspicious", *_possible("the voice")
    AUDIO_AUTHENTIC = "audio_authentic", *_none("the voice")
    VIDEO_SYNTHETIC = "video_synthetic", *_clear("the motion and the frames")
    VIDEO_SUSPICIOUS = "video_suspicious", *_possible("the motion and the frames")
    VIDEO_AUTHENTIC = "video_authentic", *_none("the motion and the frames")
    PROVENANCE_CONCLUSIVE = (
        "provenance_conclusive",
        Group.VERDICT,
        "A signed statement inside the file (C2PA) says that a generative model made or edited it.",
        "Look at the signer in the evidence: trust it as far as you trust that name.",
    )
    WATERMARK_CONCLUSIVE = (
        "watermark_conclusive",
        Group.VERDICT,
        "The picture carries the invisible watermark that a generator puts into what it makes, "
        "which decided alone once. Anybody can plant it: it is a claim today (watermark_claim).",
        "Take it as a statement of the file, or examine the file again.",
        True,
    )
    WATERMARK_CLAIM = (
        "watermark_claim",
        Group.VERDICT,
        "The picture carries the invisible watermark that an open generator puts into what it "
        "makes. That is no chance; but the mark is public, and anybody can plant it into a genuine "
        "picture with a few lines of code.",
        "Ask where the picture comes from. If somebody gains by discrediting it, look for an older "
        "copy without the mark.",
    )
    METADATA_CLAIM = (
        "metadata_claim",
        Group.VERDICT,
        "The file says of itself that a generative model made it, by a label or the parameters of "
        "one. Anybody can write that into any file.",
        "Take it as a statement of the file, and ask who wrote it there.",
    )
    PROVENANCE_CLAIM = (
        "provenance_claim",
        Group.VERDICT,
        "A manifest (C2PA) says that a generative model made or edited the file, but nobody on the "
        "trust list vouches for that. Anybody can sign so.",
        "Find out whose signature it is, and trust it as far as you trust that name.",
    )
    METADATA_HINT = (
        "metadata_hint",
        Group.VERDICT,
        "The file names a program that can generate media; the same program can also have opened "
        "or cut a genuine file.",
        "Ask who used that program, and for what.",
    )
    KNOWN_SYNTHETIC = (
        "known_synthetic",
        Group.VERDICT,
        "The file looks like a copy of one that somebody ruled to be synthetic. That ruling may be "
        "wrong, and the copy may differ in a part.",
        "Read who ruled and when, and compare the two files before you act.",
    )
    KNOWN_GENUINE = (
        "known_genuine",
        Group.VERDICT,
        "The file looks like a copy of one that somebody ruled to be genuine. A part of it may "
        "have been changed since, such as a face, so this clears nothing.",
        "Compare the two files, and look where they differ.",
    )
    KNOWN_DISPUTED = (
        "known_disputed",
        Group.VERDICT,
        "The file looks like a copy of files on which people ruled differently, so that neither "
        "ruling counts.",
        "Compare the files and ask those who ruled; one of them should take his ruling back.",
    )
    METADATA_CLAIM_TRUSTED = "metadata_claim_trusted", *_believed("The file itself")
    PROVENANCE_CLAIM_TRUSTED = "provenance_claim_trusted", *_believed("A manifest in the file")
    WATERMARK_CLAIM_TRUSTED = "watermark_claim_trusted", *_believed("A watermark in the picture")
    UNSTABLE = (
        "unstable",
        Group.VERDICT,
        "The score changes a great deal when the picture is saved again, so it cannot be relied "
        "on either way.",
        "Examine the original, or a copy that was saved fewer times.",
    )
    SCORE_DOES_NOT_LAST = (
        "score_does_not_last",
        Group.VERDICT,
        "The score of the picture is clean, but does not stay so when its crops move by a few "
        "pixels or shrink a little, as that of other pictures does. Whoever attacks a detector "
        "leaves such pictures; by chance genuine ones are like that too, but rarely.",
        "Ask for the original, and where it comes from; do not take the clean score for an answer.",
    )
    FRAME_STANDS_OUT = (
        "frame_stands_out",
        Group.VERDICT,
        "The frames of the clip bear no trace together, but one of them does alone, as where "
        "something synthetic was put into genuine footage. By chance single frames of genuine "
        "clips do so too.",
        "Look at the clip about that second; cut the part out and have it examined alone.",
    )
    OTHER_TRACKS = (
        "other_tracks",
        Group.VERDICT,
        "The file has more than one picture or sound, of which only the one that players choose "
        "was looked at. Some may choose another.",
        "Write each of them to a file of its own, and examine those.",
    )
    BETWEEN_LIMITS = (
        "between_limits",
        Group.VERDICT,
        "The score lies where genuine and synthetic files both occur.",
        _ELSEWHERE,
    )
    MANDATORY_NOT_RUN = (
        "mandatory_not_run",
        Group.VERDICT,
        "A detector that has to look before a file is cleared could not look at this one, or "
        "another one failed on it.",
        "The evidence says why; mend that, and examine the file again.",
    )
    LOW_PRIOR = (
        "low_prior",
        Group.VERDICT,
        "The option Prior says that synthetic files are rare where this one comes from, so a false "
        "alarm is likelier than a find.",
        "Look for other evidence, or put Prior back to 0.5.",
    )
    EVIDENCE_DISAGREES = (
        "evidence_disagrees",
        Group.VERDICT,
        "Two pieces of evidence say opposite things. One of them is wrong, and nothing here can "
        "tell which.",
        _ELSEWHERE,
    )
    NOTHING_APPLIED = (
        "nothing_applied",
        Group.VERDICT,
        "No detector is made for a file like this.",
        "Examine the original, or a longer part.",
    )
    METADATA_CONCLUSIVE = (
        "metadata_conclusive",
        Group.VERDICT,
        "The file names the generator that made it, or its parameters. Anybody can write such a "
        "text into any file, so it decides nothing alone today (metadata_claim).",
        "Take it as a statement of the file, or examine the file again.",
        True,
    )
    METADATA_SUSPICIOUS = (
        "metadata_suspicious",
        Group.VERDICT,
        "The file names a program that can generate media, which counted as a score once "
        "(metadata_hint today).",
        "Ask who used that program, or examine the file again.",
        True,
    )

    # Cautions: the score is shown, but the word for it is not firm.
    GRAPHIC_NOT_PHOTO = (
        "graphic_not_photo",
        Group.CAUTION,
        "It looks like a graphic or a screenshot, which the detector was not made for.",
        "Cut the photo out of the screenshot, or look for it by itself.",
    )
    NOT_CALIBRATED_FOR_VIDEO = (
        "not_calibrated_for_video",
        Group.CAUTION,
        "The detector was calibrated on still pictures.",
        "Take the score as a hint and look at the other evidence.",
    )
    TOO_MANY_FACES = (
        "too_many_faces",
        Group.CAUTION,
        "Only the eight largest faces were judged.",
        "Cut out the face that matters and examine that.",
    )
    TOO_FEW_FRAMES = (
        "too_few_frames",
        Group.CAUTION,
        "There are too few frames to judge the motion.",
        "Examine a longer part of the video.",
    )
    MUSIC = (
        "music",
        Group.CAUTION,
        "There is music in the sound, which the detector was not made for.",
        "Examine a part with speech alone.",
    )
    SINGING = (
        "singing",
        Group.CAUTION,
        "The voice seems to sing, and the detector was made for speech.",
        "Examine a part that is spoken; nothing here judges singing.",
    )
    TOO_NOISY = (
        "too_noisy",
        Group.CAUTION,
        "The noise is nearly as strong as the speech and hides traces.",
        "Look for a better recording of the same speech.",
    )
    CLIPPED = (
        "clipped",
        Group.CAUTION,
        "Much of the sound is clipped, which hides and imitates traces.",
        "Look for a recording that was not turned up so far.",
    )

    FULL_TIER_MISSING = (
        "full_tier_missing",
        Group.CAUTION,
        "The quick tier judged alone where the full one would have been asked, because that is not "
        "installed.",
        "Install it with deepfake models install, which takes a file, a folder or a URL.",
    )

    # Why something was not judged: there is no score, and the file is not at fault.
    IMAGE_TOO_SMALL = (
        "image_too_small",
        Group.NOT_JUDGED,
        "The picture is too small for the detector.",
        _LARGER,
    )
    NO_FACE = "no_face", Group.NOT_JUDGED, "No face was found.", _NOTHING
    FACE_TOO_SMALL = (
        "face_too_small",
        Group.NOT_JUDGED,
        "The face is too small to be judged.",
        _LARGER,
    )
    FACE_BLURRED = (
        "face_blurred",
        Group.NOT_JUDGED,
        "The face is too blurred to be judged.",
        _LARGER,
    )
    FACE_TURNED_AWAY = (
        "face_turned_away",
        Group.NOT_JUDGED,
        "The face is turned too far away to be judged.",
        "Look for another moment or picture in which the face looks forward.",
    )
    TOO_LITTLE_MOTION = (
        "too_little_motion",
        Group.NOT_JUDGED,
        "The mouth hardly moves while somebody speaks, so the voice may be of somebody unseen.",
        "Examine a part in which the speaker is in sight.",
    )
    NO_SOUND = "no_sound", Group.NOT_JUDGED, "The video has no sound track.", _NOTHING
    NO_SPEECH = (
        "no_speech",
        Group.NOT_JUDGED,
        "No speech was found in the sound, and only speech can be judged.",
        "Examine a part in which somebody speaks, where there is one.",
    )
    AUDIO_TOO_SHORT = (
        "audio_too_short",
        Group.NOT_JUDGED,
        "There is too little sound to judge.",
        "Examine a longer part of the recording.",
    )
    NO_METADATA = (
        "no_metadata",
        Group.NOT_JUDGED,
        "The file says nothing of its origin. Most platforms remove such data when a file is "
        "uploaded, so this is no sign of anything.",
        "Ask for the original file, as the camera wrote it.",
    )
    NO_MANIFEST = (
        "no_manifest",
        Group.NOT_JUDGED,
        "The file carries no signed statement of its origin (C2PA). Most files have none.",
        _NOTHING,
    )
    TOO_SMALL = (
        "too_small",
        Group.NOT_JUDGED,
        "The picture is too small to carry the invisible watermarks that are looked for.",
        _LARGER,
    )
    NO_BUNDLE = (
        "no_bundle",
        Group.NOT_JUDGED,
        "There is no model for this evidence in the models folder.",
        "Look at what is there with deepfake models list, and activate one.",
    )
    MODEL_SUSPENDED = (
        "model_suspended",
        Group.NOT_JUDGED,
        "The model for this evidence is suspended: whoever runs it found that its answers cannot "
        "be relied on.",
        "Ask again once it was replaced. A report that rests on it may be revised.",
    )
    NOT_A_PICTURE = (
        "not_a_picture",
        Group.NOT_JUDGED,
        "The model judges pictures, and this file is none; an export skips it.",
        "Give the export pictures.",
    )
    NOT_A_VIDEO = (
        "not_a_video",
        Group.NOT_JUDGED,
        "The model judges videos, and this file is none; an export skips it.",
        "Give the export videos.",
    )

    # Errors of a file.
    MEDIA = (
        "media",
        Group.FILE,
        "The file cannot be examined, for a reason that its error names.",
        "Follow the remedy in the error.",
    )
    UNSUPPORTED = (
        "unsupported",
        Group.FILE,
        "The file is no image, sound or video that can be read here.",
        "Convert it to a common format, such as JPEG, WAV or MP4.",
    )
    NOT_MEDIA = (
        "not_media",
        Group.FILE,
        "A scan met a file that is no media and does not look so by its name.",
        "There is nothing to do; leave such files out with --exclude.",
    )
    CORRUPT = "corrupt", Group.FILE, "The file, or a part of it, could not be decoded.", _ORIGINAL
    TOO_LARGE = (
        "too_large",
        Group.FILE,
        "The file, or a part of it, is larger or costlier than what is examined.",
        "Shrink or cut the file; who runs the program can raise its limits.",
    )
    EMPTY = "empty", Group.FILE, "The file has 0 bytes.", "Get the file again."
    NO_STREAMS = (
        "no_streams",
        Group.FILE,
        "The file is a container that holds neither pictures nor sound.",
        _ORIGINAL,
    )
    NO_FRAMES = (
        "no_frames",
        Group.FILE,
        "Not one frame of the video could be decoded.",
        _ORIGINAL,
    )
    NO_AUDIO = (
        "no_audio",
        Group.FILE,
        "The file announces sound, but none of it could be decoded.",
        _ORIGINAL,
    )
    NO_SAMPLES = (
        "no_samples",
        Group.FILE,
        "The sound has no samples, so that it lasts no time at all.",
        "Get a longer one.",
    )
    WRONG_KIND = (
        "wrong_kind",
        Group.FILE,
        "Pictures were asked of a sound, or sound of a picture.",
        "Ask for what the kind of the file has.",
    )
    DECODER_FAILED = (
        "decoder_failed",
        Group.FILE,
        "The confined decoder ended, or answered nonsense, on this file. Damaged files do that, "
        "and so do files that were made to.",
        _HOSTILE,
    )
    DECODER_STALLED = (
        "decoder_stalled",
        Group.FILE,
        "The confined decoder made no progress on this file and was ended.",
        "Encode the file again, or cut it.",
    )
    NOT_FOUND = (
        "not_found",
        Group.FILE,
        "There is no file under this path or URL.",
        "Check how it is written.",
    )
    NOT_A_FILE = (
        "not_a_file",
        Group.FILE,
        "The path is that of a folder, a device or a pipe.",
        "Give the files in it, or examine a folder with deepfake scan.",
    )
    UNREADABLE = (
        "unreadable",
        Group.FILE,
        "The file may not be read, or the disk does not give it.",
        "Check permissions, credentials and the disk; the next scan tries it again.",
    )
    NETWORK = (
        "network",
        Group.FILE,
        "A store did not answer, three times.",
        "Check the connection; the next scan tries the file again.",
    )
    LISTING = (
        "listing",
        Group.FILE,
        "A folder or a store could not be listed, so that files in it may be missing.",
        "Check its permissions; the next scan lists it again.",
    )
    TIME_LIMIT = (
        "time_limit",
        Group.FILE,
        "The file was not done within the time that one file may take.",
        "Allow more seconds (--file-seconds), or examine a part or a smaller copy.",
    )
    WORKER_DIED = (
        "worker_died",
        Group.FILE,
        "The process that examined the file died, each time that it was tried.",
        "Try it with deepfake detect, with more memory.",
    )
    INTERNAL = (
        "internal",
        Group.FILE,
        "The program met a bug with this file; no other file is affected.",
        "Report it with the traceback in the log.",
    )
    NO_FILE = "no_file", Group.FILE, "Nothing was chosen on the page.", "Choose a file first."
    NOT_SENT = (
        "not_sent",
        Group.FILE,
        "The file did not reach the page whole.",
        "Send it again, or a smaller copy.",
    )
    TOO_MANY_FILES = (
        "too_many_files",
        Group.FILE,
        "More files were sent to the page at once than it takes.",
        "Send fewer at once, or examine them with deepfake scan.",
    )
    UPLOAD_GONE = (
        "upload_gone",
        Group.FILE,
        "The page has deleted the file, as it does once a file is examined or was left waiting.",
        "Choose it again.",
    )
    NO_ROOM = (
        "no_room",
        Group.FILE,
        "The page has no room for the file while others are examined.",
        "Try again in a few minutes.",
    )
    CANCELLED = (
        "cancelled",
        Group.FILE,
        "The examination was stopped on request, before its end.",
        "Start it again for a report.",
    )

    # Answers of the service.
    BAD_REQUEST = (
        "bad_request",
        Group.SERVICE,
        "The request does not have the form that this address takes.",
        "Compare it with what docs/service.md and the OpenAPI description of the service say.",
    )
    WRONG_TYPE = (
        "wrong_type",
        Group.SERVICE,
        "The body of the request is of a type that this address does not take.",
        "Send a form with the file (multipart/form-data), or the file itself as "
        "application/octet-stream.",
    )
    NO_KEY = (
        "no_key",
        Group.SERVICE,
        "The request carries no key, or one that is unknown, has expired or was revoked.",
        "Send a valid key as Authorization: Bearer KEY; whoever runs the service makes them.",
    )
    SUSPENDED = (
        "suspended",
        Group.SERVICE,
        "The key sent many files that hardly differ, as attacks on a detector do, and may ask "
        "nothing for a while.",
        "Ask whoever runs the service; deepfake keys resume ends it.",
    )
    NOT_ALLOWED = (
        "not_allowed",
        Group.SERVICE,
        "The key or the account may not do this, or the request comes from another site.",
        "Ask whoever runs the service for a key or a role with the scope that the error names.",
    )
    WRONG_PASSWORD = (
        "wrong_password",
        Group.SERVICE,
        "Nobody can sign in with what was given: a name with a password, or a provider's word.",
        "Try again; whoever runs the service makes accounts and sets passwords.",
    )
    PAUSED = (
        "paused",
        Group.SERVICE,
        "Too many wrong passwords were given for a name, so nobody is asked for it for a while.",
        "Wait as long as the error says, then sign in with the right password.",
    )
    NOTHING_HERE = (
        "nothing_here",
        Group.SERVICE,
        "There is nothing at this address, or it belongs to somebody else.",
        "Check the id; jobs and reports are deleted after a while.",
    )
    CONFLICT = (
        "conflict",
        Group.SERVICE,
        "The thing is in a state in which this cannot be done to it.",
        "Look at its state first.",
    )
    REPEATED = (
        "repeated",
        Group.SERVICE,
        "Another request with the same Idempotency-Key is still in work, or asked for something "
        "else.",
        "Send the same request again a little later, or a new one under a new Idempotency-Key.",
    )
    RATE_LIMITED = (
        "rate_limited",
        Group.SERVICE,
        "The key has sent more requests than it may in the time that its limit names.",
        "Wait as long as Retry-After says, and send fewer at once.",
    )
    BUDGET_SPENT = (
        "budget_spent",
        Group.SERVICE,
        "The files or the seconds of media that the key may have examined in a day are used up.",
        "Go on tomorrow (UTC), or ask whoever runs the service for more.",
    )
    BUSY = (
        "busy",
        Group.SERVICE,
        "As many requests wait as the service lets wait.",
        "Try again after the seconds that Retry-After names, or send a job.",
    )
    DATABASE = (
        "database",
        Group.SERVICE,
        "The database of the service does not answer, or its disk is full.",
        "Try again later; whoever runs the service looks at its database, its disk and its log.",
    )
    ADDRESS_REFUSED = (
        "address_refused",
        Group.SERVICE,
        "The service may not send requests to this address: its host is not on the list, or it "
        "leads into a private network.",
        "Name a host that everybody can reach, or ask whoever runs the service to allow this one.",
    )
    NOT_FETCHED = (
        "not_fetched",
        Group.SERVICE,
        "The file could not be fetched from the address that was named.",
        "Check that the address answers with the file itself, or send the file.",
    )
    FORGED = (
        "forged",
        Group.SERVICE,
        "The message was not signed with the secret of this webhook, was changed, or is too old.",
        "Drop it. If all messages are refused, compare the secret and the clock of this machine.",
    )
    NO_ANSWER = (
        "no_answer",
        Group.SERVICE,
        "The service could not be reached, or its answer is none of this service.",
        "Check the address, and whether the service runs there.",
    )

    # Errors of the installation, or of how it was called.
    ERROR = (
        "error",
        Group.INSTALLATION,
        "Something failed for which there is no better code.",
        "Follow the remedy in the error.",
    )
    MODEL = (
        "model",
        Group.INSTALLATION,
        "The model for this evidence is missing, damaged or does not fit.",
        "Run deepfake models verify where the file was examined, or tell whoever runs the page.",
    )
    GOLDEN_FAILED = (
        "golden_failed",
        Group.INSTALLATION,
        "A model does not give, here, the scores of its own golden inputs that were recorded when "
        "it was made.",
        "Do not use it; get it from its publisher again, or try another --backend.",
    )
    MODELS_CHANGED = (
        "models_changed",
        Group.INSTALLATION,
        "Other models were activated while this file waited, so that it waits for them.",
        "There is nothing to do; the scan examines the file with the present models.",
    )
    BACKEND = (
        "backend",
        Group.INSTALLATION,
        "No runtime could load or run the model for this evidence.",
        _DOCTOR,
    )
    SETTINGS = (
        "settings",
        Group.INSTALLATION,
        "An option or a setting has a value that does not work.",
        "Follow the remedy in the error.",
    )
    MISSING_DEPENDENCY = (
        "missing_dependency",
        Group.INSTALLATION,
        "A Python package that this needs is not installed.",
        "Install what the error names.",
    )
    DECODER = (
        "decoder",
        Group.INSTALLATION,
        "The confined decoder cannot be started here, whatever the file.",
        _DOCTOR,
    )
    WORKER = (
        "worker",
        Group.INSTALLATION,
        "The worker processes of a scan end before they are ready.",
        "Run deepfake doctor, and look at the free memory.",
    )
    RESULTS_FILE = (
        "results_file",
        Group.INSTALLATION,
        "The results file of a scan cannot be written.",
        "Free space on its disk and run the same command again, which goes on from there.",
    )


_BY_TEXT = {str(code): code for code in Code}


def find_code(text: str) -> Code | None:
    """The code that is written ``text``; None for one of another version or of another's source."""
    return _BY_TEXT.get(text)


def read_code(text: str) -> Code | str:
    """The code that is written ``text``, which stays itself where it is not known here."""
    return _BY_TEXT.get(text, text)
