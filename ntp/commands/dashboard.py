"""``ntp dashboard``: a W&B workspace and a W&B report that compare objectives."""

import json
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from ntp.commands.output import check_output
from ntp.comparison.collect import collect, directories
from ntp.config.errors import ConfigError, RunFailed
from ntp.config.schema import DashboardConfig
from ntp.config.validation import resolve, validate
from ntp.tracking.dashboard import gather_facts, publish, specifications, upload_page
from ntp.tracking.describe import facts as print_facts
from ntp.tracking.runs import read_run
from ntp.tracking.tree import print_config
from ntp.tracking.wandb_run import explained, has_key


def run(config: DictConfig) -> dict[str, str]:
    """Write the specifications of workspace and report; publish them if asked to.

    Raises:
        ConfigError: there are no such runs, they don't say where they are in W&B, or no API key is configured.
        RunFailed: W&B or the network failed.
    """
    typed = validate(config, DashboardConfig)
    if typed.print_config:
        print_config(resolve(config))
    check_output(typed.output)
    page = None if typed.report is None else Path(typed.report)
    if page is not None and not page.is_file():
        inside = page / "report.html"
        nearest = f" (did you mean '{inside}'?)" if inside.is_file() else "; `ntp compare` writes report.html"
        raise ConfigError("report", f"{page} is not a file{nearest}")
    collection = collect(directories(typed.runs), unfinished=True)
    found = [run for one in collection.runs if (run := read_run(one.path)) is not None]
    about = gather_facts(found, typed.entity, typed.project)
    if typed.publish and not has_key():
        raise ConfigError("publish", "no W&B API key is configured; log in with `wandb login`")
    built = specifications(about)
    output = Path(typed.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, one in built.items():
            (output / f"{name}.json").write_text(json.dumps(one, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError("output", f"{output} can't be written ({error.strerror})") from None
    rows = [("runs", f"{', '.join(about.objectives)} in {about.entity}/{about.project}")]
    addresses = {name: str(output / f"{name}.json") for name in built}
    rows += list(addresses.items())
    try:
        if typed.publish:
            addresses = publish(about, page)
            rows += list(addresses.items())
        elif page is not None:
            upload_page(about.entity, about.project, page, "offline")
            rows.append(("page", f"kept for `wandb sync` below {page.parent / 'wandb'}"))
    except Exception as error:  # W&B's own, of many kinds
        raise RunFailed(f"W&B failed ({explained(error)}); the specifications are in {output}") from error
    print_facts(rows, Console())
    return addresses
