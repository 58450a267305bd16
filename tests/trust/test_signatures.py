"""Signatures of bundles: what they hold, and that nothing can be changed, left out or put in."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepfake.bundle import SIGNATURE, Bundle
from deepfake.commands.cli import main
from deepfake.detector import Detector
from deepfake.errors import ModelError, SettingsError
from deepfake.preprocess import ImagePreprocess
from deepfake.settings import Settings, shipped_models_folder, user_keys_folder
from deepfake.trust import releases, signatures
from deepfake.trust.envelopes import canonical, encode, seal
from deepfake.trust.keys import make_pair, read_private_pair, read_public_pairs
from deepfake.trust.registry import activate, read_bundles, ship
from deepfake.trust.signatures import (
    NotSigned,
    Trust,
    read_revoked,
    require_signed,
    shipped_trust,
    sign_bundle,
    verify_bundle,
)
from tests.bundles import copy_bundle, keys_of_tests, make_bundle, ship_models, sign
from tests.media_files import image_bytes, scene

SHIPPED = sorted(path.parent for path in shipped_models_folder().glob("*/bundle.json"))
Values = dict[str, Any]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A signed one with a card and a picture in it."""
    made = make_bundle(tmp_path / "models" / "image-1", preprocess=ImagePreprocess(side_pixels=32))
    (made.folder / "README.md").write_text("# image-1\n![curve](roc.png)\n", encoding="utf-8")
    (made.folder / "roc.png").write_bytes(b"a curve")
    sign(made.folder)
    return Bundle.read(made.folder)


@pytest.fixture
def trust() -> Trust:
    return Trust.read(Settings())


def statement(bundle: Bundle) -> Values:
    values = json.loads((bundle.folder / SIGNATURE).read_bytes())
    found: Values = json.loads(base64.b64decode(values["payload"]))
    return found


def reseal(bundle: Bundle, values: Values, *, kind: str = signatures.PAYLOAD) -> None:
    """Another statement, rightly signed."""
    envelope = seal(canonical(values), kind, read_private_pair(keys_of_tests()))
    (bundle.folder / SIGNATURE).write_bytes(envelope)


def test_the_encoding_is_that_of_the_standard() -> None:
    example = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert encode("http://example.com/HelloWorld", b"hello world") == example


def test_the_statement_names_every_file_and_where_it_comes_from(
    bundle: Bundle, trust: Trust, tmp_path: Path
) -> None:
    recipe = tmp_path / "image-1.toml"
    recipe.write_text("seed = 1\n")
    pair = read_private_pair(keys_of_tests())
    sign_bundle(bundle, pair, recipe=recipe, commit="a" * 40)
    signed = verify_bundle(bundle, trust)
    assert signed.pair.ids == pair.public.ids
    assert signed.predicate["recipe"]["name"] == "image-1.toml"
    assert signed.predicate["source_commit"] == "a" * 40
    assert signed.predicate["licence"] == "Apache-2.0"
    assert signed.predicate["bundle_sha256"] == bundle.sha256
    values = statement(bundle)
    assert values["_type"] == "https://in-toto.io/Statement/v1"
    names = [one["name"] for one in values["subject"]]
    assert names == ["README.md", "bundle.json", "golden.npz", "model.onnx", "roc.png"]
    with pytest.raises(SettingsError, match="commit 'main'"):
        sign_bundle(bundle, pair, commit="main")


@pytest.mark.slow
def test_every_changed_byte_of_every_file_is_refused(bundle: Bundle, trust: Trust) -> None:
    """Each place by a varying difference, and of the envelope by its last bit too, where base64
    has bits that mean nothing.
    """
    verify_bundle(bundle, trust)
    count = 0

    def refuse(path: Path) -> None:
        with pytest.raises(ModelError):
            verify_bundle(
                Bundle.read(bundle.folder) if path.name == "bundle.json" else bundle, trust
            )

    for path in sorted(bundle.folder.iterdir()):
        content = path.read_bytes()
        with path.open("rb+", buffering=0) as file:
            for place, byte in enumerate(content):
                for change in {place % 255 + 1} | ({1} if path.name == SIGNATURE else set()):
                    os.pwrite(file.fileno(), bytes([byte ^ change]), place)
                    refuse(path)
                    count += 1
                os.pwrite(file.fileno(), bytes([byte]), place)
        for other in (content[:-1], content + b"\n"):
            path.write_bytes(other)
            refuse(path)
        path.write_bytes(content)
    assert count > 10_000
    verify_bundle(Bundle.read(bundle.folder), trust)


@pytest.mark.slow
@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_changed_byte_of_a_shipped_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / folder.name
    place.mkdir()
    for path in folder.iterdir():
        (place / path.name).symlink_to(path)
    trust, rng = shipped_trust(), random.Random(folder.name)
    verify_bundle(Bundle.read(place), trust)
    for path in sorted(folder.iterdir()):
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
        (place / path.name).unlink()
        (place / path.name).write_bytes(content)
        with pytest.raises(ModelError):
            verify_bundle(Bundle.read(place), trust)
        (place / path.name).unlink()
        (place / path.name).symlink_to(path)


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_source_of_a_shipped_bundle_is_in_the_history(folder: Path) -> None:
    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    commit = verify_bundle(Bundle.read(folder), shipped_trust()).predicate["source_commit"]
    assert commit is not None
    if not shutil.which("git") or git("rev-parse", "--is-shallow-repository").stdout != "false\n":
        pytest.skip("the history is not here")
    assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0


def swap(values: Values) -> None:
    values["signatures"].reverse()


def twice(values: Values) -> None:
    values["signatures"][1] = values["signatures"][0]


def one_alone(values: Values) -> None:
    del values["signatures"][1]


def a_third(values: Values) -> None:
    values["signatures"].append({"keyid": "0" * 64, "sig": ""})


def none(values: Values) -> None:
    values["signatures"] = []


def same_algorithm(values: Values) -> None:
    """The Ed25519 signature in the place of the other."""
    values["signatures"][1]["sig"] = values["signatures"][0]["sig"]


def confused(values: Values) -> None:
    """Each signature under the id of the other key."""
    one, other = values["signatures"]
    one["sig"], other["sig"] = other["sig"], one["sig"]


def named_algorithm(values: Values) -> None:
    values["signatures"][0]["alg"] = "none"


def unknown_key(values: Values) -> None:
    values["signatures"][0]["keyid"] = "f" * 64


def empty_signature(values: Values) -> None:
    values["signatures"][1]["sig"] = ""


def another_type(values: Values) -> None:
    values["payloadType"] = "text/plain"


def no_text(values: Values) -> None:
    values["payload"] = 7


FORGED: dict[Callable[[Values], None], str] = {
    swap: "not signed by a trusted pair",
    twice: "signed twice by one key",
    one_alone: "not exactly two signatures",
    a_third: "not exactly two signatures",
    none: "not exactly two signatures",
    same_algorithm: "ml-dsa-65 signature is wrong",
    confused: "ed25519 signature is wrong",
    named_algorithm: "not an envelope",
    unknown_key: "not signed by a trusted pair",
    empty_signature: "ml-dsa-65 signature is wrong",
    another_type: "about something else",
    no_text: "not an envelope",
}


@pytest.mark.parametrize(
    ("forge", "words"), FORGED.items(), ids=[forge.__name__ for forge in FORGED]
)
def test_a_forged_envelope_is_refused_with_the_remedy(
    bundle: Bundle, trust: Trust, forge: Callable[[Values], None], words: str
) -> None:
    path = bundle.folder / SIGNATURE
    values = json.loads(path.read_bytes())
    forge(values)
    path.write_bytes(canonical(values) + b"\n")
    with pytest.raises(NotSigned, match=f"image-1: .*{words}.*; "):
        verify_bundle(bundle, trust)


def test_halves_of_two_trusted_pairs_are_no_pair(
    bundle: Bundle, tmp_path: Path, trust: Trust
) -> None:
    make_pair(tmp_path / "other", "other")
    both = Trust.read(Settings(trusted_keys=(keys_of_tests(), tmp_path / "other")))
    path = bundle.folder / SIGNATURE
    mixed = json.loads(path.read_bytes())
    sign_bundle(bundle, read_private_pair(tmp_path / "other"))
    verify_bundle(bundle, both)
    with pytest.raises(NotSigned, match="trusted pair"):
        verify_bundle(bundle, trust)
    mixed["signatures"][1] = json.loads(path.read_bytes())["signatures"][1]
    path.write_bytes(canonical(mixed) + b"\n")
    with pytest.raises(NotSigned, match="trusted pair"):
        verify_bundle(bundle, both)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"[" * 9000, b"NaN\n", bytes(300_000)])
def test_what_is_no_envelope_is_refused(bundle: Bundle, trust: Trust, raw: bytes) -> None:
    (bundle.folder / SIGNATURE).write_bytes(raw)
    with pytest.raises(NotSigned, match=r"envelope|larger than any"):
        verify_bundle(bundle, trust)


def test_the_envelope_of_another_bundle_is_refused(bundle: Bundle, trust: Trust) -> None:
    other = copy_bundle(bundle.folder, "image-2")
    shutil.copy(other.folder / SIGNATURE, bundle.folder / SIGNATURE)
    with pytest.raises(NotSigned, match="has the signature of image-2"):
        verify_bundle(bundle, trust)


def test_an_earlier_envelope_does_not_hold_for_changed_thresholds(
    bundle: Bundle, trust: Trust
) -> None:
    path = bundle.folder / "bundle.json"
    path.write_text(path.read_text().replace('"synthetic": 0.9', '"synthetic": 0.8'))
    with pytest.raises(NotSigned, match=r"bundle\.json was changed since it was signed"):
        verify_bundle(Bundle.read(bundle.folder), trust)


def test_other_statements_of_a_trusted_pair_are_refused(bundle: Bundle, trust: Trust) -> None:
    values = statement(bundle)
    for wrong in (
        values | {"_type": "another"},
        values | {"predicateType": "another"},
        values | {"subject": [{"name": 1}]},
        {},
        [],
    ):
        reseal(bundle, wrong)
        with pytest.raises(NotSigned, match="not about a bundle"):
            verify_bundle(bundle, trust)
    reseal(bundle, values, kind="application/json")
    with pytest.raises(NotSigned, match="about something else"):
        verify_bundle(bundle, trust)


def test_extra_and_missing_files_are_refused(bundle: Bundle, trust: Trust) -> None:
    (bundle.folder / "model.int8.onnx").write_bytes(b"anything")
    with pytest.raises(NotSigned, match=r"model\.int8\.onnx is not part of it.*; remove it"):
        verify_bundle(bundle, trust)
    (bundle.folder / "model.int8.onnx").unlink()
    for name in ("roc.png", "README.md", "model.onnx", SIGNATURE):
        path = bundle.folder / name
        path.rename(bundle.folder.parent / "apart")
        with pytest.raises(ModelError, match=f"{name}|not signed"):
            verify_bundle(bundle, trust)
        (bundle.folder.parent / "apart").rename(path)
    verify_bundle(bundle, trust)


def test_only_what_is_whole_is_signed(bundle: Bundle) -> None:
    pair = read_private_pair(keys_of_tests())
    (bundle.folder / "stray").write_bytes(b"")
    with pytest.raises(ModelError, match="file stray is not part of it"):
        sign_bundle(bundle, pair)
    (bundle.folder / "stray").unlink()
    (bundle.folder / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"model\.onnx differs"):
        sign_bundle(bundle, pair)


def test_revoked_keys_and_bundles_are_refused(bundle: Bundle, tmp_path: Path, trust: Trust) -> None:
    path = bundle.folder.parent / "revoked.json"
    keys = trust.pairs[read_private_pair(keys_of_tests()).public.ids[0]].ids
    settings = Settings(models_folder=path.parent, allow_unsigned=True)
    for key in keys:
        write_revoked(path, keys={key: "stolen\x1b[31m"})
        with pytest.raises(NotSigned, match=r"key [0-9a-f]{12} is revoked \(stolen"):
            verify_bundle(bundle, Trust.read(settings))
    write_revoked(path, bundles={bundle.sha256: "backdoored"})
    with pytest.raises(ModelError, match=r"image-1: is revoked \(backdoored\); use another"):
        require_signed([bundle], Trust.read(settings))
    for text in ("", "{}", '{"schema": "deepfake-revoked/1", "keys": {"a": "b"}, "bundles": {}}'):
        path.write_text(text)
        with pytest.raises(ModelError, match=r"revocation list .*; restore it"):
            Trust.read(settings)
    path.unlink()
    assert read_revoked(path) == read_revoked()


def write_revoked(path: Path, **lists: dict[str, str]) -> None:
    values = {"schema": "deepfake-revoked/1", "keys": {}, "bundles": {}} | lists
    path.write_text(json.dumps(values))


def test_unsigned_bundles_are_refused_or_told(
    known_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = Path(shutil.copytree(known_models, tmp_path / "models"))
    (models / "audio-1" / SIGNATURE).unlink()
    picture = tmp_path / "photo.png"
    picture.write_bytes(image_bytes(scene(200, 120)))
    place = ["--models", str(models)]
    for command in (["detect", str(picture)], ["scan", str(picture), "--output", "r.jsonl"]):
        assert main([*command, *place]) == 2
        error = capsys.readouterr().err
        assert "bundle audio-1: is not signed" in error
        assert "deepfake models sign" in error
        assert "--allow-unsigned" in error
    assert main(["models", "activate", "audio-1", *place]) == 1
    assert main(["models", "verify", *place]) == 1
    assert main(["doctor", *place]) == 1
    capsys.readouterr()
    told = "Bundles without a trusted signature are allowed (--allow-unsigned); these are used: "
    assert main(["detect", "--json", str(picture), *place, "--allow-unsigned"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert f"{told}audio-1 (is not signed (no {SIGNATURE}))." in warnings
    (models / "audio-1" / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"audio-1: file model\.onnx differs"):
        Detector(Settings(models_folder=models, allow_unsigned=True))


def test_the_environment_names_keys_and_allows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEEPFAKE_TRUSTED_KEYS", os.pathsep.join(["a", "b"]))
    monkeypatch.setenv("DEEPFAKE_ALLOW_UNSIGNED", "1")
    settings = Settings()
    assert settings.trusted_keys == (Path("a"), Path("b"))
    assert settings.allow_unsigned
    with pytest.raises(SettingsError, match="trusted keys 'a': no such pair"):
        Trust.read(settings)
    monkeypatch.setenv("DEEPFAKE_ALLOW_UNSIGNED", "yes")
    with pytest.raises(SettingsError, match="DEEPFAKE_ALLOW_UNSIGNED 'yes': unknown; set 1 or 0"):
        Settings()


def test_commands_make_keys_and_sign(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    assert main(["models", "keygen", str(keys)]) == 0
    pair = read_private_pair(keys)
    assert pair.public.ids[1] in capsys.readouterr().out
    assert [path.stat().st_mode & 0o777 for path in sorted(keys.glob("*.pem"))] == [
        0o600,
        0o644,
        0o600,
        0o644,
    ]
    assert main(["models", "keygen", str(keys)]) == 2, "keys are never overwritten"
    assert "PRIVATE" not in capsys.readouterr().err
    assert main(["models", "sign", str(bundle.folder), "--keys", str(keys)]) == 0
    place = ["--models", str(bundle.folder.parent)]
    capsys.readouterr()
    assert main(["models", "verify", *place]) == 1
    assert "image-1: is not signed by a trusted pair of keys" in capsys.readouterr().out
    for trusted in (keys, keys / "own.ed25519.pub.pem", keys / "own.ml-dsa-65.pub.pem"):
        assert main(["models", "verify", *place, "--trusted-keys", str(trusted)]) == 0
    assert main(["models", "sign", "image-1", *place]) == 0, "with the user's own"
    assert "image-1" in capsys.readouterr().out
    assert main(["models", "verify", *place]) == 0
    own = read_private_pair(user_keys_folder())
    assert verify_bundle(bundle, Trust.read(Settings())).pair.ids == own.public.ids
    assert main(["models", "sign", "image-1", *place]) == 0, "and with the same again"
    assert read_private_pair(user_keys_folder()).public.ids == own.public.ids


def test_half_a_pair_and_other_keys_are_refused(tmp_path: Path) -> None:
    make_pair(tmp_path, "mine")
    (tmp_path / "mine.ml-dsa-65.pub.pem").unlink()
    with pytest.raises(SettingsError, match="a pair needs both halves"):
        read_public_pairs(tmp_path)
    shutil.copy(tmp_path / "mine.ed25519.pub.pem", tmp_path / "mine.ml-dsa-65.pub.pem")
    with pytest.raises(SettingsError, match="is not of ml-dsa-65"):
        read_public_pairs(tmp_path)
    (tmp_path / "mine.ml-dsa-65.pub.pem").write_bytes(b"text")
    with pytest.raises(SettingsError, match="is no PEM file"):
        read_public_pairs(tmp_path)
    with pytest.raises(SettingsError, match="no pairs of private keys"):
        read_private_pair(tmp_path / "none")
    with pytest.raises(SettingsError, match="an odd name"):
        make_pair(tmp_path, "../x")


def test_the_shipped_bundles_are_signed_by_keys_of_the_package_and_logged() -> None:
    trust, logged = shipped_trust(), releases.read_releases()
    for bundle in read_bundles(shipped_models_folder()).values():
        signed = verify_bundle(bundle, trust)
        assert releases.why_unlogged(bundle, logged) is None
        assert signed.predicate["training_data_sha256"] == bundle.provenance["data_sha256"]


def test_a_release_is_signed_and_logged(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle.folder.parent
    activate(folder, "image-1")
    ship_models(folder, tmp_path, monkeypatch)
    new = copy_bundle(bundle.folder, "image-2")
    make_pair(tmp_path / "foreign", "foreign")
    foreign = read_private_pair(tmp_path / "foreign")
    with pytest.raises(ModelError, match="do not ship with the package"):
        ship(folder, "image-2", keys=foreign)
    sign_bundle(new, foreign)
    with pytest.raises(NotSigned, match="trusted pair"):
        ship(folder, "image-2")
    assert releases.why_unlogged(new, releases.read_releases()) == "is not in the log of releases"
    (release,) = ship(folder, "image-2", keys=read_private_pair(keys_of_tests()))
    assert (release.number, release.bundle_sha256) == (2, new.sha256)
    assert ship(folder, "image-2") == [release], "what is logged is not logged again"
    assert main(["models", "verify", "image-2", "--models", str(folder)]) == 0
    sign(new.folder)
    assert main(["models", "verify", "image-2", "--models", str(folder)]) == 1


def test_a_changed_log_of_releases_is_refused(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "RELEASES", tmp_path / "releases.jsonl")
    pair = read_private_pair(keys_of_tests()).public
    for name in ("image-2", "image-3", "image-4"):
        releases.log_release(copy_bundle(bundle.folder, name), pair)
    lines = releases.RELEASES.read_bytes().splitlines(keepends=True)
    assert len(releases.read_releases()) == 3
    for changed in (
        lines[1:],
        [lines[0], lines[2]],
        [lines[1], lines[0], lines[2]],
        [lines[0], *lines],
        [lines[0].replace(b"image-2", b"image-5"), *lines[1:]],
        [lines[0].replace(b":", b": "), *lines[1:]],
        [b"\n", *lines],
    ):
        releases.RELEASES.write_bytes(b"".join(changed))
        with pytest.raises(ModelError, match=r"releases\.jsonl: .*; restore it"):
            releases.read_releases()
