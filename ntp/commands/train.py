"""``ntp train``: train a model under an objective."""

import errno

from lightning import seed_everything
from omegaconf import DictConfig
from rich.console import Console

from ntp.commands.composed import is_run_dir_given, is_sweep, option_name, overridden_keys, overrides
from ntp.commands.processes import check_run_dir_is_given_to_all, is_first_process, tell_processes_where
from ntp.config.errors import ConfigError
from ntp.config.schema import TrainConfig
from ntp.config.validation import resolve, validate
from ntp.evaluation.exams.result import read_results
from ntp.evaluation.printing import print_results
from ntp.tracking.describe import facts, relative
from ntp.tracking.run_directory import RunDirectory
from ntp.tracking.tree import print_config
from ntp.training.plan import plan
from ntp.training.report import report
from ntp.training.resume import find_resumption, take_over
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
    first = is_first_process()
    check_run_dir_is_given_to_all()
    resumed = find_resumption(typed, plain, overridden_keys(), given_run_dir=is_run_dir_given(), first=first)
    if resumed is not None:
        typed, plain = resumed.config, resumed.plain
    directory = RunDirectory(resumed.path if resumed else typed.run_dir)
    plain["run_dir"] = str(directory.path)
    console = Console(stderr=True, quiet=not first)
    if typed.print_config and first:
        print_config(plain)
    if first and resumed is None:
        directory.check_free()
    if is_sweep() and option_name("hydra/launcher") == "basic" and count_devices(typed.trainer) > 1:
        raise ConfigError("trainer.devices", "hydra/launcher=basic takes one device a job; isolated takes any number")
    seed_everything(typed.seed, workers=True, verbose=False)
    setup = set_up(typed)
    objective = (resumed and resumed.objective) or option_name("objective")
    lines = plan(setup, objective)
    if typed.check and first:
        from ntp.testing.preflight import preflight

        lines.append(preflight(setup))
    if resumed is not None:
        lines += resumed.facts()
    training = TrainingRun(setup, directory, plain, objective, resumed.checkpoint if resumed else None)
    try:
        if first:
            directory.claim() if resumed is None else take_over(resumed, directory, setup)
            tell_processes_where(directory.path)
            directory.write_config(plain, overrides() if resumed is None else None)
            directory.write_environment()
            setup.prepared.tokenizer.save(directory.path / "tokenizer")
        facts([*lines, *training.plan, ("run", str(relative(directory.path)))], console)
        training.train()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise ConfigError(
            "run_dir", f"{directory.path} can't be written any more ({error.strerror}); earlier checkpoints are whole"
        ) from error
    finally:
        directory.release()
    if first:
        step = training.trainer.global_step
        print_results([one for one in read_results(directory.path) if one.step == step], Console())
        report(training, Console())
    return training.module.latest.get("val/loss")
