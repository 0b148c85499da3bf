"""Hydra at the door: compose a command's config, call the command, and explain what Hydra refuses."""

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ntp.config import naming, resolvers, search_path
from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion

CONFIG_MODULE = "ntp.conf"
CONFIG_ERRORS = (HydraException, OmegaConfBaseException)


# What these hold is text, whatever it looks like to Hydra's grammar.
_TEXT_KEYS = ("prompt", "prefix", "suffix", "text")
_ASSIGNMENT = re.compile(r"(\+{0,2}[\w./@]+)=(.*)", re.DOTALL)


def hydra_main(command: str, arguments: list[str]) -> None:
    """Run ``ntp.commands.<command>.run(config)`` under Hydra.

    Args:
        command: name of the command, of its module and of its root config.
        arguments: what follows the command on the command line: overrides and Hydra's own flags.

    Raises:
        HydraException, OmegaConfBaseException: the config does not compose; see `explain`.
        Exception: whatever the command raises; in a sweep the first one, when all jobs are done.
    """
    resolvers.register()
    naming.register()
    search_path.register()
    arguments = [quote_text(one) for one in arguments]
    for flag in ("-m", "--multirun"):  # Hydra's own parser takes it only in front of the overrides
        if flag in arguments:
            arguments = [flag, *(one for one in arguments if one != flag)]
    try:
        _run(command, arguments)
    except OverrideParseException:
        # A path such as run=outputs/seed=0, or any text with brackets: plain for a person, not for Hydra's grammar.
        requoted = [one if one.startswith("-") or _parses(one) else quoted(one) for one in arguments]
        if requoted == arguments:
            raise
        _run(command, requoted)


def quote_text(override: str) -> str:
    """An override of a key that holds text, quoted for Hydra's grammar; others as they are."""
    return quoted(override) if override.split("=")[0] in _TEXT_KEYS else override


def quoted(override: str) -> str:
    """``key=value`` with the value as a quoted string, unless it is one already."""
    match = _ASSIGNMENT.fullmatch(override)
    is_quoted = match is not None and re.fullmatch(r"'.*'|\".*\"", match[2], re.DOTALL)
    if match is None or (is_quoted and _parses(override)):
        return override
    # Hydra's grammar: a backslash counts only in front of a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), match[2])
    return f"{match[1]}='{escaped}'"


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([override])
    except OverrideParseException:
        return False
    return True


class Task:
    """A command, as Hydra calls it: once, or in a sweep once a job.

    Args:
        command: its name.

    Attributes:
        failures: what it raised, job by job: from Hydra, the user would read lines of Hydra's own too.
        finish: set by a launcher that runs jobs by other means. It is called when Hydra is done, with the error that
            Hydra ended with or None, and has the last word.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.failures: list[Exception] = []
        self.finish: Callable[[BaseException | None], None] | None = None
        self._argv = sys.argv

    def __call__(self, config: DictConfig) -> Any:
        """Run the command; None where it failed."""
        # Lightning starts the other ranks of a DDP run with sys.argv: they need the command too.
        sys.argv = self._argv
        if "run_dir" in config:
            # Every rank and every job of a sweep writes where Hydra says.
            config.run_dir = HydraConfig.get().runtime.output_dir
        try:
            return importlib.import_module(f"ntp.commands.{self.command}").run(config)
        except Exception as error:
            self.failures.append(error)
            return None
        finally:
            with contextlib.suppress(OSError):
                if "run_dir" in config and not os.path.samefile(config.run_dir, os.getcwd()):
                    os.rmdir(config.run_dir)  # Hydra made it, and nothing was written: only then does this succeed


def _run(command: str, arguments: list[str]) -> None:
    task = Task(command)
    try:
        _call_hydra(task, arguments)
    except BaseException as error:
        if task.finish is None:
            raise
        task.finish(error)
    else:
        if task.finish is not None:
            task.finish(None)
    if task.failures:
        raise task.failures[0]


def _call_hydra(task: Task, arguments: list[str]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us; the command line turns them into one line
    argv = sys.argv
    sys.argv = [f"ntp {task.command}" if "--help" in arguments else argv[0], *arguments]
    try:
        hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name=task.command, version_base="1.3")(task)()
    except OSError as error:
        if isinstance(error, (HydraException, BrokenPipeError)):
            raise
        # The one thing that Hydra itself does on disk is to make the run directory.
        raise ConfigError("run_dir", f"{error.filename} can't be made ({error.strerror})") from error
    except ValueError as error:
        # What the command raises is kept by the task; of its own, Hydra says this of a group without an option.
        empty = next((one.split("=")[0] for one in arguments if re.fullmatch(r"[\w/]+=(null)?", one)), None)
        if empty is None or isinstance(error, ConfigError):
            raise
        raise ConfigError(empty, "is a group, and needs one of its options; --help lists them") from error
    finally:
        sys.argv = argv


def explain(error: Exception, command: str, arguments: list[str]) -> str:
    """One line for an error of Hydra's: the key that is wrong and the nearest right one."""
    first_line = str(error).strip().split("\n")[0]
    overrides = [one for one in arguments if not one.startswith("-")]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            groups = _all_groups(loader)
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
            chosen: list[list[str]] = []
            inner = []
            for one in parsed:
                name = one.key_or_group
                if name not in groups:
                    continue
                place = f"{name}@{one.package}" if one.package else name
                if one.is_add() and not one.package:
                    return f"{name}: is chosen already; write it without the plus: {name}={one.value()}"
                options = loader.get_group_options(name)
                values = _swept(one)
                for value in values:
                    if value not in options:
                        return f"{place}: there is no '{value}'{suggestion(value, options)}"
                if one.package and not one.is_add():
                    inner.append(one)
                elif one.is_sweep_override() and values:
                    chosen.append([f"{one.get_key_element()}={value}" for value in values])
                else:
                    chosen.append([str(one.input_line)])
            # In a sweep a key may be known to some of the options only.
            for index in range(max(map(len, chosen), default=1)):
                options = [choices[index % len(choices)] for choices in chosen]
                varied = [choice for choice, choices in zip(options, chosen, strict=True) if len(choices) > 1]
                if problem := _unknown_key(command, parsed, groups, options, inner):
                    return f"{problem} with {' '.join(varied)}" if varied else problem
    except CONFIG_ERRORS:
        pass
    return _unreadable(first_line) or first_line


def _unreadable(message: str) -> str | None:
    """What is wrong with an override that Hydra's grammar can't read, where its own message does not say."""
    if found := re.fullmatch(r"Error parsing override '([^=]+)'", message):
        return f"{found[1]}: is no override; each is key=value or group=option"
    if found := re.fullmatch(r"Ambiguous value for argument '(.+?)=(.+)'", message):
        key, values = found.groups()
        return f"{key}: several values are a list, {key}=[{values}], or with -m in front a sweep"
    return None


def _unknown_key(command: str, parsed: list[Any], groups: list[str], chosen: list[str], inner: list[Any]) -> str | None:
    """What is wrong with the first override whose key is not in the config.

    Args:
        command: name of its root config.
        parsed: all overrides.
        groups: names of the config groups.
        chosen: options of groups.
        inner: overrides that choose an option for a place within the config.
    """
    known = _all_keys(compose(command, overrides=chosen))
    for one in inner:
        package = str(one.package)
        if package not in known:
            beside = [key for key in known if key.rpartition(".")[0] == package.rpartition(".")[0]]
            add = "" if one.is_delete() else "; a plus in front adds it"
            return f"{one.key_or_group}@{package}: no such key{suggestion(package, beside)}{add}"
    known = _all_keys(compose(command, overrides=[*chosen, *(str(one.input_line) for one in inner)]))
    for one in parsed:
        if one.is_hydra_override() or one.is_add() or one.is_delete():
            continue
        if one.key_or_group not in groups and one.key_or_group not in known:
            hint = _option_of(one.key_or_group, groups) or suggestion(one.key_or_group, known | set(groups))
            return f"{one.key_or_group}: no such key{hint}"
    return None


def _option_of(key: str, groups: list[str]) -> str | None:
    """How to choose the option whose key this is, where the config has not got it; None where it is of no option."""
    loader = GlobalHydra.instance().config_loader()
    for group in groups:
        package = group.replace("/", ".") + "."
        option = key.removeprefix(package).split(".")[0]
        if key.startswith(package) and option in loader.get_group_options(group):
            return f" without {group}={option}"
    return None


def _swept(override: Any) -> list[str]:
    """The options that an override of a group chooses: several in a sweep or a list, none where it deletes."""
    value = override.value()
    if override.is_choice_sweep():
        return [str(one) for one in value.list]
    if isinstance(value, list):
        return [str(one) for one in value]
    return [] if value is None or override.is_sweep_override() else [str(value)]


def _all_groups(loader: Any, prefix: str = "") -> list[str]:
    groups = []
    for name in loader.list_groups(prefix):
        path = f"{prefix}/{name}" if prefix else name
        groups += [path, *_all_groups(loader, path)]
    return groups


def _all_keys(config: Any, prefix: str = "") -> set[str]:
    keys = set()
    if isinstance(config, DictConfig):
        for name in map(str, config):
            path = f"{prefix}.{name}" if prefix else name
            keys.add(path)
            if not OmegaConf.is_missing(config, name) and not OmegaConf.is_interpolation(config, name):
                keys |= _all_keys(config[name], path)
    return keys
