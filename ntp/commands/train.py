"""``ntp train``: train a model under an objective."""

import errno

from lightning import seed_everything
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console

from ntp.commands.composed import is_sweep, option_name, overrides
from ntp.config.errors import ConfigError
from ntp.config.schema import TrainConfig
from ntp.config.validation import resolve, validate
from ntp.tracking.describe import facts, relative
from ntp.tracking.run_directory import RunDirectory
from ntp.tracking.tree import print_config
from ntp.training.plan import plan
from ntp.training.report import report
from ntp.training.run import TrainingRun
from ntp.training.setup import count_devices, set_up


def run(config: DictConfig) -> float | None:
    """Validate, set up, train, and say how it went.

    Returns:
        The final validation loss, for sweepers.

    Raises:
        ConfigError: what was asked for is wrong, or the disk is full.
    """
    typed = validate(config, TrainConfig)
    plain = resolve(config)
    first = getattr(rank_zero_only, "rank", 0) == 0
    console = Console(stderr=True, quiet=not first)
    if typed.print_config and first:
        print_config(plain)
    directory = RunDirectory(typed.run_dir)
    if first:
        directory.check_free()
    if is_sweep() and count_devices(typed.trainer) > 1:
        raise ConfigError("trainer.devices", "a sweep (-m) takes one device a job; start such jobs one by one")
    seed_everything(typed.seed, workers=True, verbose=False)
    setup = set_up(typed)
    lines = plan(setup, objective := option_name("objective"))
    if typed.check and first:
        from ntp.testing.preflight import preflight

        lines.append(preflight(setup))
    training = TrainingRun(setup, directory, plain, objective)
    try:
        if first:
            directory.claim()
            directory.write_config(plain, overrides())
            directory.write_environment()
            setup.prepared.tokenizer.save(directory.path / "tokenizer")
        facts([*lines, ("run", str(relative(directory.path)))], console)
        training.train()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise ConfigError(
            "run_dir", f"{directory.path} can't be written any more ({error.strerror}); earlier checkpoints are whole"
        ) from error
    if first:
        report(training, Console())
    return training.module.latest.get("val/loss")
