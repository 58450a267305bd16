"""``deepfake models``: list, show, verify and export bundles."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from ..bundle import Bundle
    from ..export.bundles import Exported
    from ..settings import Settings

EXAMPLES = """\
list    every bundle with its slot, network, licence and size
show    the model card of one bundle, or of all
verify  compare every file with its recorded sha256
export  write one bundle for an edge device: a single graph that takes bytes of pixels or samples
        and gives the calibrated score, kept only when it agrees with the bundle on files

examples:
  deepfake models export image-2 --format onnx --output edge
  deepfake models export image-2 --format openvino --half --check photos/
  deepfake models export audio-2 --format onnx-int8 --calibrate speech/ --labels held-out.tsv
  deepfake models export face-1 --format tflite-ready

exit status: 0 done, 1 the export does not agree (nothing is written) or a file is damaged,
2 wrong usage
"""


def add_models(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> Any:
    """The parser of ``models``."""
    models = commands.add_parser(
        "models",
        parents=parents,
        help="list, show, verify or export bundles",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models.add_argument("action", choices=("list", "show", "verify", "export"))
    models.add_argument("name", nargs="?", help="one bundle; export needs it")
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
        "--check", type=Path, metavar="FOLDER", help="media that it must agree on with the bundle"
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
    return models


def manage_models(options: argparse.Namespace, settings: Settings, console: Console) -> int:
    """``deepfake models list|show|verify|export``; bars go to standard error."""
    from ..bundle import read_bundles
    from ..show.console import print_table

    bundles = {bundle.name: bundle for bundle in read_bundles(options.models).values()}
    if options.name and options.name not in bundles:
        raise SettingsError(
            f"bundle {options.name!r}: not found", hint=f"there are {', '.join(bundles)}"
        )
    chosen = [bundles[options.name]] if options.name else list(bundles.values())
    if options.action == "export":
        return _export(options, settings, bundles, console)
    if options.action == "list":
        rows = [
            [b.slot, b.name, b.network, b.licence, f"{b.size_bytes / 1e6:.1f} MB"] for b in chosen
        ]
        print_table(["slot", "bundle", "network", "licence", "size"], rows, console)
    elif options.action == "show":
        for bundle in chosen:
            console.out((bundle.folder / "README.md").read_text(encoding="utf-8"))
    else:
        for bundle in chosen:
            bundle.verify()
            console.out(f"{bundle.name}: every file matches its sha256")
    return 0


def _export(
    options: argparse.Namespace, settings: Settings, bundles: dict[str, Bundle], console: Console
) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeRemaining

    from ..engine.engine import Engine
    from ..export.bundles import ExportOptions, export_bundle

    if options.name is None or options.format is None:
        raise SettingsError(
            "models export: needs a bundle and a format",
            hint="for example: deepfake models export image-2 --format onnx",
        )
    wanted = ExportOptions(
        format=options.format,
        opset=options.opset,
        half=options.half,
        check=options.check,
        labels=options.labels,
        calibrate=options.calibrate,
    )
    errors = Console(stderr=True)
    bundle, folder, engine = bundles[options.name], options.output or Path(), Engine(settings)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemaining(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as bar:
        tasks: dict[str, Any] = {}

        def advance(text: str, done: int, total: int) -> None:
            if text not in tasks:
                tasks[text] = bar.add_task(text, total=total)
            bar.update(tasks[text], completed=done)

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
