"""``deepfake models``: list, show, verify, install, export and sign bundles."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency, SettingsError
from .audit import add_audit_options
from .bars import show_steps
from .registry import ACTIONS, DIGITS, manage_registry, print_warnings
from .serve import add_data

if TYPE_CHECKING:
    from rich.console import Console

    from ..bundle import Bundle
    from ..export.bundles import Exported
    from ..settings import Settings
    from ..trust.registry import Finding

EXAMPLES = """\
list      every bundle with its slot, licence, size and the first digits of its sha256, which
          covers all but the card; whether it is the active one of its slot, and shipped; where it
          lies, if not in the models folder. A slot may have two tiers: image-3, image-3-large
show      the model card of one bundle, or of all active ones
verify    compare every bundle with active.json, the list of the models folder, and with what is
          shipped, every file with its recorded sha256 and with what was signed, and shipped bundles
          with the log of releases; name what differs, lacks or is extra
keygen    make a pair of keys that sign bundles, Ed25519 and ML-DSA-65, in a folder
sign      sign every file of a bundle as it is now, with the pair in --keys, or else with your own,
          which is made on first use in your configuration folder and trusted on this machine
activate  make a bundle the one that answers in its slot: writes its present sha256 into
          active.json, once it is signed and gives the scores of its golden inputs that were
          recorded. A running service and running scans pick that up
history   who made what answer when, and why
rollback  restore what answered before the last change that is not undone yet
inspect   is there a backdoor in a bundle for pictures, of the models folder or any other? The
          smallest patch that turns the answer is fitted to --check pictures, for it and for one
          that is trusted (the shipped bundle of the slot, or --against FOLDER), and tried under
          mixtures with other pictures; needs the extra train
quarantine  refuse a bundle from now on; what answered before it does so again, and where nothing
          did, its slot is suspended: verdicts that would rest on it are inconclusive
shadow    let a bundle judge a --share of what a service examines beside the one that answers;
          nobody sees what it says. Without a bundle: how both compare so far; --off ends it
diff      two bundles: limits, calibration and metrics where they differ, and their scores on the
          golden inputs of both
install   bring a bundle from a folder, a zip or tar archive or an https URL into your own models
          folder, as image-3-large, which the package leaves out for its size; it must be the one
          that this release lists, or have the --sha256 that you give, and be signed by a pair
          that is trusted here
export    write one bundle for an edge device: a single graph that takes bytes of pixels or samples
          and gives the calibrated score, kept only when it agrees with the bundle on files

examples:
  deepfake models verify
  deepfake models activate image-100 --models my-models
  deepfake models install image-3-large.zip
  deepfake models sign my-models/image-100
  deepfake models diff image-3 image-100 --models my-models
  deepfake models inspect their-models/image-100 --check photos/
  deepfake models quarantine image-100 --models my-models --why "its maker's keys were stolen"
  deepfake models export image-3 --format onnx --output edge
  deepfake models export image-3 --format openvino --half --check photos/
  deepfake models export audio-3 --format onnx-int8 --calibrate speech/ --labels held-out.tsv
  deepfake models export face-1 --format tflite-ready

exit status: 0 done, 1 the export does not agree (nothing is written) or a bundle is not what it
should be, or is suspicious, 2 wrong usage
"""


def add_models(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> Any:
    """The parser of ``models``."""
    models = commands.add_parser(
        "models",
        parents=parents,
        help="list, show, verify, sign, install or export bundles, and change which ones answer",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = ("list", "show", "verify", "keygen", "sign", *ACTIONS, "inspect", "install", "export")
    models.add_argument("action", choices=actions)
    models.add_argument(
        "name",
        nargs="?",
        help="one bundle; sign, activate, quarantine, inspect (or its folder) and export need it, "
        "install a file, a folder or a URL, and keygen a folder",
    )
    models.add_argument("other", nargs="?", help="diff: the bundle to compare it with")
    shadow = models.add_argument_group("shadow")
    shadow.add_argument(
        "--share", type=float, default=0.1, help="of the files, from 0 to 1 (%(default)s)"
    )
    shadow.add_argument("--off", action="store_true", help="end it")
    add_data(shadow)
    models.add_argument(
        "--against",
        type=Path,
        metavar="FOLDER",
        help="inspect: a bundle of the slot to compare with",
    )
    models.add_argument(
        "--steps", type=int, default=100, help="inspect: of each fit of a patch (%(default)s)"
    )
    models.add_argument("--why", metavar="TEXT", help="of a change, kept in its history")
    models.add_argument(
        "--sha256", metavar="HEX", help="install: that of a bundle which is not of this release"
    )
    signing = models.add_argument_group("sign")
    signing.add_argument("--keys", type=Path, metavar="FOLDER", help="with a pair of private keys")
    signing.add_argument("--recipe", type=Path, metavar="FILE", help="that it was trained by")
    signing.add_argument("--commit", metavar="HEX", help="of the source that it was trained with")
    group = models.add_argument_group(
        "export",
        "Without --check and --labels the export is compared on the bundle's own golden input.",
    )
    group.add_argument(
        "--format",
        metavar="FORMAT",
        help="onnx: fp32 for ONNX Runtime; onnx-int8: a third to a half of the size; openvino: its "
        "intermediate representation; tflite-ready: one window of a fixed shape for converters",
    )
    group.add_argument("--output", type=Path, metavar="FOLDER", help="where to write (.)")
    group.add_argument("--opset", type=int, metavar="N", help="convert to this ONNX operator set")
    group.add_argument(
        "--half", action="store_true", help="openvino: weights in 16 bits, half the size"
    )
    group.add_argument(
        "--check",
        type=Path,
        metavar="FOLDER",
        help="media that it must agree on with the bundle; inspect: pictures to lay patches over",
    )
    group.add_argument(
        "--labels",
        type=Path,
        metavar="TSV",
        help="int8: a path, a tab and 0 (genuine) or 1 (synthetic) in each line; the loss in AUC "
        "must be 0.01 at most. Or give --check a folder with genuine/ and synthetic/",
    )
    group.add_argument(
        "--calibrate",
        type=Path,
        metavar="FOLDER",
        help="int8: some hundred files, none of them in --check or --labels, from which the ranges "
        "of the activations are learnt",
    )
    add_audit_options(models, what="who changed which bundles")
    return models


def manage_models(options: argparse.Namespace, settings: Settings, console: Console) -> int:
    """``deepfake models``; bars go to standard error."""
    if options.action in ACTIONS:
        return manage_registry(options, settings, console)
    if options.action in ("inspect", "install"):
        from .install import install_bundle

        act = _inspect if options.action == "inspect" else install_bundle
        return act(options, settings, console)
    if options.action in ("keygen", "sign"):
        from . import signing

        return (signing.make_keys if options.action == "keygen" else signing.sign)(options, console)
    if options.action in ("list", "verify"):
        from ..trust.registry import inspect_folder
        from ..trust.signatures import Trust

        findings = inspect_folder(options.models, Trust.read(settings))
        _check_name(options.name, [finding.name for finding in findings])
        findings = [one for one in findings if options.name in (None, one.name)]
        show = _list if options.action == "list" else _verify
        return show(findings, options.models, console)
    from ..trust.registry import read_bundles

    bundles = {bundle.name: bundle for bundle in read_bundles(options.models).values()}
    _check_name(options.name, list(bundles))
    if options.action == "export":
        return _export(options, settings, bundles, console)
    for bundle in [bundles[options.name]] if options.name else bundles.values():
        console.out(bundle.card())
    return 0


def _inspect(options: argparse.Namespace, settings: Settings, console: Console) -> int:
    if options.name is None or options.steps < 1:
        raise SettingsError(
            "models inspect: needs a bundle, and at least one step",
            hint="for example: deepfake models inspect image-3 --check photos/",
        )
    try:
        inspection = importlib.import_module("deepfake_training.backdoors.inspection")
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "deepfake":
            raise
        raise MissingDependency(error.name or "torch", extra="train") from error
    status: int = inspection.inspect(
        options.name,
        settings=settings,
        check=options.check,
        against=options.against,
        steps=options.steps,
        console=console,
    )
    return status


def _check_name(name: str | None, known: Sequence[str]) -> None:
    if name and name not in known:
        raise SettingsError(f"bundle {name!r}: not found", hint=f"there are {', '.join(known)}")


def _list(findings: Sequence[Finding], folder: Path, console: Console) -> int:
    from ..show.console import print_table
    from ..text import printable

    rows = []
    for one in findings:
        facts = ["–"] * 4
        if (bundle := one.bundle) is not None:
            size = f"{bundle.size_bytes / 1e6:.1f} MB"
            facts = [bundle.slot, bundle.licence, size, bundle.sha256[:DIGITS]]
        words = [printable(word, most=40) for word in (one.name, *facts)]
        active = "missing" if one.folder is None else _say(one.active)
        rows.append([*words, active, _say(one.shipped)])
    head = ["bundle", "slot", "licence", "size", "sha256", "active", "shipped"]
    print_table(head, rows, console)
    for one in findings:
        if one.folder is not None and one.folder.parent != folder:
            console.out(f"{one.name} lies in {printable(str(one.folder.parent), most=300)}")
    _print_faults(findings, console)
    print_warnings(folder, console)
    return 0


def _verify(findings: Sequence[Finding], folder: Path, console: Console) -> int:
    """Print a table; 1 when anything is not what it should be, else 0."""
    from ..show.console import print_table
    from ..text import printable
    from ..trust.registry import LIST

    listed = (folder / LIST).exists()
    if listed:
        fine = "signed, as recorded, every file whole"
    else:
        fine = f"signed, every file whole; no {LIST}"
    rows = []
    for one in findings:
        whole = fine if one.folder else "not installed"
        result = f"{len(one.faults)} fault(s), below" if one.faults else whole
        rows.append([printable(one.name, most=40), _say(one.active), _say(one.shipped), result])
    print_table(["bundle", "active", "shipped", "result"], rows, console)
    _print_faults(findings, console)
    if not listed:
        console.out(f"to have a list: deepfake models activate NAME --models {folder}")
    return int(any(one.faults for one in findings))


def _print_faults(findings: Sequence[Finding], console: Console) -> None:
    from ..text import printable

    for one in findings:
        for fault in one.faults:
            console.out(f"{printable(one.name, most=40)}: {printable(fault, most=400)}")


def _say(holds: bool) -> str:
    return "yes" if holds else "no"


def _export(
    options: argparse.Namespace, settings: Settings, bundles: dict[str, Bundle], console: Console
) -> int:
    from ..engine.engine import Engine
    from ..export.bundles import ExportOptions, export_bundle

    if options.name is None or options.format is None:
        raise SettingsError(
            "models export: needs a bundle and a format",
            hint="for example: deepfake models export image-3 --format onnx",
        )
    wanted = ExportOptions(
        format=options.format,
        opset=options.opset,
        half=options.half,
        check=options.check,
        labels=options.labels,
        calibrate=options.calibrate,
    )
    bundle, folder, engine = bundles[options.name], options.output or Path(), Engine(settings)
    with show_steps() as advance:
        try:
            exported = export_bundle(
                bundle, engine=engine, folder=folder, options=wanted, advance=advance
            )
        finally:
            engine.close()
    print_export(exported, bundle, console)
    return 0


def print_export(exported: Exported, bundle: Bundle, console: Console) -> None:
    """What was written, and how it compares with the bundle."""
    from ..text import printable

    agreement = exported.agreement
    for path in exported.files:
        size = path.stat().st_size / 1e6
        console.out(f"wrote {printable(str(path), most=300)} ({size:.2f} MB)")
    text = f"{len(agreement.gaps)} files compared: logits differ by {agreement.logit_gap:.1e}"
    if agreement.score_gap is not None:
        text += f", scores by {agreement.score_gap:.1e} at most"
    console.out(text)
    if len(set(agreement.labels)) == 2:
        before, after = agreement.areas
        changed = agreement.changed_words(bundle)
        console.out(
            f"{len(agreement.labels)} labelled files: AUC {before:.4f} as shipped, {after:.4f} as "
            f"exported; {100 * changed:.1f} % cross an operating point"
        )
    if agreement.unread:
        reasons = ", ".join(f"{name} {count}" for name, count in sorted(agreement.unread.items()))
        console.out(f"not judged: {reasons}")
