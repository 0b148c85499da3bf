"""``ntp check``: validate a configuration and say what would run."""

import json
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from ntp.commands.composed import option_name
from ntp.config.schema import TrainConfig
from ntp.config.validation import resolve, validate
from ntp.data.rows import micro_batch_size
from ntp.tracking.describe import facts, short
from ntp.tracking.tree import print_config
from ntp.training.estimate import estimate_memory
from ntp.training.plan import plan
from ntp.training.run_callback import plans
from ntp.training.setup import set_up


def run(config: DictConfig) -> None:
    """Build everything but the weights, and print the plan.

    Raises:
        ConfigError: the configuration would not run.
    """
    typed = validate(config, TrainConfig)
    if typed.print_config:
        print_config(resolve(config))
    setup = set_up(typed, device="meta")
    memory = estimate_memory(setup, micro_batch_size(typed.data, setup.world_size))
    parts = {
        name: short(getattr(memory, name), "B")
        for name in ("weights", "gradients", "optimizer", "activations", "logits")
    }
    lines = plan(setup, option_name("objective"))
    lines.insert(-1 if setup.prepared.notes else len(lines), ("FLOPs", f"{short(setup.cost.flops, 'FLOPs')} a step"))
    lines += plans(setup, Path(typed.run_dir))
    lines.append(
        ("memory", f"about {short(memory.total, 'B')} on each device: {json.dumps(parts)[1:-1]}".replace('"', ""))
    )
    if typed.check:
        from ntp.testing.preflight import preflight

        lines.append(preflight(setup))
    console = Console()
    facts(lines, console)
    console.print("nothing was trained; the configuration is good", style="dim")
