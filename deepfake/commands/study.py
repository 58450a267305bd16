"""``deepfake study``: what models and their answers give away, measured on files of one's own."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import MissingDependency, SettingsError
from ..settings import shipped_models_folder
from ..trust.registry import read_bundles

DESCRIPTION = """\
Measure what a detector gives away, and what protects it, with heads on the features of a shipped
network. Files are read once and kept in --work, so that the same command goes on after Ctrl-C; the
folder OUTPUT.work of a `deepfake train` with the same files and seed will do.

private    ε of differential privacy against accuracy on sources that were left out, and against
           the likelihood-ratio attack on membership
copies     a detector of your own copied from its answers, by policy and number of queries
answers    the same attack on membership through the answers of a service, by policy
inversion  pictures climbed from scores, by policy, and whether they are near to what was learnt
shipped    whether a finished bundle gives away --genuine (members) among --synthetic (others)
hardening  adversarial training of the last stages of a network of pictures, and other ways to
           regularise it, against accuracy and against attacks, on a third of the sources
federated  sites that train one head together, against one place and each site alone, with poisoned
           sites and with privacy, on the sources of a site that was left out
"""

EXAMPLES = """\
examples:
  deepfake study private --genuine photos --synthetic made --work runs/study
  deepfake study private --genuine photos --synthetic made --work runs/study --quick
  deepfake study federated --genuine photos --synthetic made --work runs/study
  deepfake study hardening --genuine photos --synthetic made --work runs/study --limit 40
"""


def add_study(commands: Any) -> None:
    """Add the command and its actions."""
    study = commands.add_parser(
        "study",
        help="measure what a detector gives away, and what protects it",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = study.add_subparsers(dest="action", required=True, metavar="ACTION")
    private = _add(actions, "private", "ε against accuracy and against membership inference")
    private.add_argument(
        "--dp-epsilon", type=float, nargs="+", metavar="E", help="(0.5 1 2 4 8 16)"
    )
    private.add_argument("--dp-delta", type=float, default=1e-5, metavar="D", help="(%(default)s)")
    private.add_argument("--repeats", type=int, default=3, help="draws of the noise (%(default)s)")
    private.add_argument("--shadows", type=int, default=32, help="heads (%(default)s)")
    copies = _add(actions, "copies", "copies of a detector from its answers")
    copies.add_argument(
        "--queries", type=int, nargs="+", metavar="N", help="(100 300 1000 3000 10000 20000)"
    )
    answers = _add(actions, "answers", "membership through the answers of a service")
    answers.add_argument("--shadows", type=int, default=32, help="heads (%(default)s)")
    inversion = _add(actions, "inversion", "from scores back to pictures")
    inversion.add_argument("--queries", type=int, default=1000, help="(%(default)s)")
    inversion.add_argument("--climbs", type=int, default=4, help="(%(default)s)")
    shipped = _add(actions, "shipped", "members of a finished bundle among other files")
    shipped.description = (
        "--genuine are files that the network of the slot was trained on, --synthetic others of "
        "the same sources that it was not; all of them are of --label."
    )
    shipped.add_argument(
        "--label", choices=("genuine", "synthetic"), default="genuine", help="(%(default)s)"
    )
    hardening = _add(actions, "hardening", "adversarial training and regularisation")
    hardening.add_argument("--steps", type=int, help="of every tuning (150)")
    hardening.add_argument("--judged", type=int, help="held-out files of each class (60)")
    hardening.add_argument("--attacked", type=int, help="most of those that are found (12)")
    hardening.add_argument("--queries", type=int, help="of Square for each file (200)")
    federated = _add(actions, "federated", "sites together, alone, poisoned and private")
    federated.add_argument(
        "--sites",
        choices=("pairs", "sources"),
        default="pairs",
        help="a genuine source with synthetic ones each, or one source each (%(default)s)",
    )
    federated.add_argument("--rounds", type=int, default=30, help="(%(default)s)")
    federated.add_argument("--steps", type=int, default=5, help="in a round (%(default)s)")
    federated.add_argument(
        "--poisoned", type=int, nargs="*", default=[1, 2], metavar="N", help="sites (1 2)"
    )
    federated.add_argument(
        "--dp-epsilon", type=float, nargs="*", default=[8.0], metavar="E", help="of a site (8)"
    )
    federated.add_argument(
        "--dp-delta", type=float, default=1e-5, metavar="D", help="(%(default)s)"
    )
    study.set_defaults(run=run_study)


def run_study(options: argparse.Namespace) -> int:
    """``deepfake study``."""
    _ACTIONS[options.action](options)
    return 0


def _private(options: argparse.Namespace) -> None:
    study = _training("exposure.private")
    _training("privacy.guarantee").make_accountant()
    epsilons = options.dp_epsilon or (study.QUICK_EPSILONS if options.quick else study.EPSILONS)
    rows = study.study(
        _shelf(options),
        epsilons=epsilons,
        delta=options.dp_delta,
        repeats=1 if options.quick else options.repeats,
        shadows=8 if options.quick else options.shadows,
        seed=options.seed,
    )
    print(study.table(rows, delta=options.dp_delta))


def _federated(options: argparse.Namespace) -> None:
    study = _training("federated.simulation")
    if options.dp_epsilon:
        _training("privacy.guarantee").make_accountant()
    quick = options.quick
    rows = study.simulate(
        _shelf(options),
        study.list_schemes(epsilons=options.dp_epsilon, poisoned=options.poisoned),
        rounds=3 if quick else options.rounds,
        steps=2 if quick else options.steps,
        delta=options.dp_delta,
        seed=options.seed,
        alone=options.sites == "sources",
        most_folds=1 if quick else 0,
    )
    print(study.table(rows))


def _hardening(options: argparse.Namespace) -> None:
    study = _training("studies.hardening")
    material = _training("own.material")
    sources = material.find_sources(
        options.genuine, options.synthetic, limit=options.limit, seed=options.seed
    )
    given = {
        name: value
        for name in ("steps", "judged", "attacked", "queries")
        if (value := getattr(options, name)) is not None
    }
    plan = replace(study.QUICK if options.quick else study.Plan(), seed=options.seed, **given)
    held = study.split_sources(sources)[1]
    bundles = read_bundles(options.models)
    if options.slot not in bundles:
        raise SettingsError(
            f"slot {options.slot}: no bundle in {options.models}",
            hint="deepfake models list shows what is there",
        )
    rows = study.study(
        sources, bundles[options.slot], work=options.work, plan=plan, threads=options.threads
    )
    print(study.table(rows, held=held, plan=plan))


def _copies(options: argparse.Namespace) -> None:
    study = _training("exposure.copying")
    rows = study.study(
        _shelf(options),
        _redact(),
        queries=options.queries or ((50, 100) if options.quick else study.QUERIES),
        seed=options.seed,
        most_folds=1 if options.quick else 0,
    )
    print(study.table(rows))


def _answers(options: argparse.Namespace) -> None:
    study = _training("exposure.policies")
    shadows = 8 if options.quick else options.shadows
    rows = study.study(_shelf(options), _redact(), shadows=shadows, seed=options.seed)
    print(study.table(rows))


def _inversion(options: argparse.Namespace) -> None:
    study = _training("exposure.inversion")
    shelf = _shelf(options)
    measure = _training("own.network").FeatureGraph(
        shelf.base, folder=options.work, threads=options.threads
    )
    rows = study.study(
        shelf,
        _redact(),
        measure,
        queries=20 if options.quick else options.queries,
        climbs=1 if options.quick else options.climbs,
        seed=options.seed,
    )
    print(study.table(rows))


def _shipped(options: argparse.Namespace) -> None:
    study = _training("exposure.shipped")
    shelf = _shelf(options, as_is=True)
    row = study.study(shelf, synthetic=options.label == "synthetic", seed=options.seed)
    print(study.table([row]))


def _redact() -> Any:
    """The code by which the service tells less; raises ``MissingDependency`` naming its extra."""
    try:
        redact = importlib.import_module("deepfake_service.answers").redact
        policy = importlib.import_module("deepfake_service.store.keys").Policy
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "sqlalchemy", extra="server") from error
    return lambda report, name: redact(report, policy(name))


_ACTIONS = {
    "private": _private,
    "copies": _copies,
    "answers": _answers,
    "inversion": _inversion,
    "shipped": _shipped,
    "federated": _federated,
    "hardening": _hardening,
}


def _add(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    for word in ("genuine", "synthetic"):
        action.add_argument(
            f"--{word}",
            type=Path,
            nargs="+",
            action="extend",
            required=True,
            metavar="DIR",
            help=f"folders of {word} media, a sub-folder for each source",
        )
    action.add_argument("--work", type=Path, required=True, help="where features are kept")
    action.add_argument(
        "--slot", choices=("image", "audio", "video"), default="image", help="(%(default)s)"
    )
    action.add_argument(
        "--start",
        choices=("shipped", "fresh"),
        default="shipped",
        help="heads correct that of the shipped network, or forget it (%(default)s)",
    )
    action.add_argument("--limit", type=int, metavar="N", help="most files of each source (all)")
    action.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    action.add_argument("--threads", type=int, default=0, help="0 for all cores (%(default)s)")
    action.add_argument(
        "--models", type=Path, default=shipped_models_folder(), help="folder of bundles"
    )
    action.add_argument("--quick", action="store_true", help="a look at all of it in a minute")
    return action


def _shelf(options: argparse.Namespace, *, as_is: bool = False) -> Any:
    return _training("exposure.material").read_shelf(
        options.genuine,
        options.synthetic,
        slot=options.slot,
        models=options.models,
        work=options.work,
        limit=options.limit,
        seed=options.seed,
        threads=options.threads,
        as_is=as_is,
        start=options.start,
    )


def _training(module: str) -> Any:
    """A module of the training package; raises ``MissingDependency`` naming the extra."""
    try:
        return importlib.import_module(f"deepfake_training.{module}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith("deepfake") and missing != "deepfake_training":
            raise
        raise MissingDependency(missing, extra="train") from error
