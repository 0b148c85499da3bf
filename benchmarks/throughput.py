"""Tokens per second of ``ntp train``, of a bare PyTorch loop over the same model, and of Hugging Face's ``Trainer``.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --peers ntp,bare --steps 200 --rounds 11 --output throughput.json

Every loop lives in a process of its own, and they take turns, round after round (see `harness.laps`).
"""

import argparse
import dataclasses
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from arms.settings import Settings
from harness.corpus import write_corpus
from harness.laps import Arm, Times
from harness.machine import available_cores, describe_machine, write_json
from harness.statistics import ratios, show, spread

PEERS = {
    "ntp": "ntp train",
    "bare": "bare loop, ntp's model",
    "hf": "HF Trainer, GPT2LMHeadModel",
    "reference": "bare loop, plain GPT",
}
BASES = ("bare", "hf")
"""The loops that the table compares the others with."""
FIRST_STEPS = 20
"""Steps before the first round, in which allocators fill up and whatever is lazy is loaded."""


def main() -> None:
    """Measure, show, write."""
    options = _options()
    peers: list[str] = options.peers
    if "hf" in peers and not all(map(importlib.util.find_spec, ("transformers", "accelerate"))):
        raise SystemExit("--peers hf needs: pip install 'ntp[benchmarks]'")
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="ntp-throughput-") as name:
        directory = Path(name)
        settings = _settings(options, directory)
        write_corpus(Path(settings.corpus), settings.vocabulary, options.characters)
        arms: list[Arm] = []
        try:
            for peer in track(peers, "starting", console=Console(stderr=True), transient=True):
                arms.append(Arm(peer, dataclasses.asdict(settings), directory, options.threads))
                arms[-1].stand()
            rounds = _measure(arms, options)
        finally:
            for arm in arms:
                arm.end()
    result = {arm.name: arm.facts | _summary(arm.name, rounds, options.steps, settings.tokens) for arm in arms}
    shape = {key: value for key, value in dataclasses.asdict(settings).items() if key != "corpus"}
    timing = {"warm_steps": options.warm, "timed_steps": options.steps, "rounds": options.rounds}
    Console(width=None if Console().is_terminal else 180).print(_table(result, settings, options.threads))
    write_json(
        options.output,
        {"benchmark": "throughput", "machine": machine, "settings": shape | timing, "arms": result},
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=_peers, default=list(PEERS), help=f"of {','.join(PEERS)} (all)")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--length", type=int, default=64, help="positions of a row (64)")
    parser.add_argument("--batch", type=int, default=12, help="rows of a step (12)")
    parser.add_argument("--vocabulary", type=int, default=65, help="tokens, special ones included (65)")
    parser.add_argument("--characters", type=int, default=1_000_000, help="length of the text (1000000)")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of every loop (all cores)")
    parser.add_argument("--steps", type=int, default=100, help="timed steps of a lap (100)")
    parser.add_argument("--warm", type=int, default=5, help="steps before them (5)")
    parser.add_argument("--rounds", type=int, default=9, help="laps of every loop (9)")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    return parser.parse_args()


def _peers(text: str) -> list[str]:
    peers = text.split(",")
    if unknown := [one for one in peers if one not in PEERS]:
        raise argparse.ArgumentTypeError(f"there is no '{unknown[0]}'; choose from {', '.join(PEERS)}")
    return list(dict.fromkeys(peers))


def _settings(options: argparse.Namespace, directory: Path) -> Settings:
    return Settings(
        corpus=str(directory / "corpus.txt"),
        vocabulary=options.vocabulary,
        layers=options.layers,
        width=options.width,
        heads=options.heads,
        length=options.length,
        batch=options.batch,
        precision=options.precision,
        device=options.device,
        # One step more than is asked for: a loop stands at the start of a step when its last lap ends.
        steps=FIRST_STEPS + options.rounds * (options.warm + options.steps) + 1,
    )


def _measure(arms: list[Arm], options: argparse.Namespace) -> list[dict[str, Times]]:
    """The time of each loop's lap in each round."""
    for arm in arms:
        arm.lap(0, FIRST_STEPS)
    return [
        {arm.name: arm.lap(options.warm, options.steps) for arm in arms}
        for _ in track(range(options.rounds), "measuring", console=Console(stderr=True), transient=True)
    ]


def _summary(name: str, rounds: list[dict[str, Times]], steps: int, tokens: int) -> dict[str, Any]:
    laps = [one[name] for one in rounds]
    summary: dict[str, Any] = {
        "tokens_per_second": spread([steps * tokens / lap.wall for lap in laps]),
        "step_ms": spread([1000 * lap.wall / steps for lap in laps]),
        "step_processor_ms": spread([1000 * lap.processor / steps for lap in laps]),
        "rounds": [{"seconds": lap.wall, "processor_seconds": lap.processor} for lap in laps],
    }
    summary["speed_ratio_to"] = {
        other: ratios([one[other].wall for one in rounds], [lap.wall for lap in laps]) for other in rounds[0]
    }
    return summary


def _table(result: dict[str, Any], settings: Settings, threads: int) -> Table:
    title = (
        f"{settings.layers} layers, width {settings.width}, {settings.heads} heads, T={settings.length}, "
        f"B={settings.batch}, V={settings.vocabulary}, {settings.precision}, {settings.device}, {threads} threads"
    )
    table = Table(title=title, title_justify="left")
    bases = [base for base in BASES if base in result]
    compared = [f"ratio to {base} (min .. max)" for base in bases]
    for column in ("", "tokens/s (min .. max)", *compared, "ms a step", "CPU ms a step", "parameters"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, arm in result.items():
        table.add_row(
            f"{name}: {PEERS[name]}",
            show(arm["tokens_per_second"], ",.0f"),
            *(show(arm["speed_ratio_to"][base], ".3f") for base in bases),
            f"{arm['step_ms']['median']:.2f}",
            f"{arm['step_processor_ms']['median']:.2f}",
            f"{arm['parameters']:,}",
        )
    return table


if __name__ == "__main__":
    main()
