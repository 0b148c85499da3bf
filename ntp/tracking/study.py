"""A search's study: where the process that searches and the processes of its trials meet. Optuna's, and it needs it.

Optuna is imported when a function is called: a command that searches nothing must not need it.
"""

import inspect
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion

if TYPE_CHECKING:
    import optuna

PRUNERS = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "none": "NopPruner",
}
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler"}
JOURNAL, IN_MEMORY = "journal:", "memory:"
DATABASE_PATIENCE = 60.0  # seconds for which a process waits for others that write to the same file
_PRUNER_ATTRIBUTE = "pruner"


def import_optuna() -> Any:
    """Optuna, told to be quiet.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError("hydra/sweeper", 'optuna is not installed; pip install "ntp[optuna]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Options of samplers that Optuna 4 has and calls experimental.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def open_storage(url: str) -> "optuna.storages.BaseStorage":
    """Open what holds the study.

    Args:
        url: a database's, such as ``sqlite:////runs/study.db``; or ``journal:`` and the path of a file, which several
            machines may share where the file system has no reliable locks for SQLite; or ``memory:``, for this process.

    Raises:
        ConfigError: it can't be opened.
    """
    optuna = import_optuna()
    try:
        if url == IN_MEMORY:
            return optuna.storages.InMemoryStorage()
        if url.startswith(JOURNAL):
            path = url.removeprefix(JOURNAL)
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
        patience = {"connect_args": {"timeout": DATABASE_PATIENCE}} if url.startswith("sqlite:") else None
        return optuna.storages.RDBStorage(url, engine_kwargs=patience)
    except Exception as error:  # of Optuna, SQLAlchemy, a driver or the system
        raise ConfigError("hydra.sweeper.storage", f"{url} can't be opened ({str(error).splitlines()[0]})") from None


def make_pruner(name: str, options: dict[str, Any]) -> "optuna.pruners.BasePruner":
    """A pruner by its name in the config.

    Args:
        name: one of `PRUNERS`.
        options: arguments of Optuna's class; those that are None have its default.

    Raises:
        ConfigError: there is no such pruner, or it does not take the options.
    """
    return _make("pruner", name, PRUNERS, import_optuna().pruners, options)


def make_sampler(name: str, options: dict[str, Any], seed: int) -> "optuna.samplers.BaseSampler":
    """A sampler by its name in the config.

    Args:
        name: one of `SAMPLERS`.
        options: arguments of Optuna's class; those that are None have its default.
        seed: of its draws.

    Raises:
        ConfigError: there is no such sampler, or it does not take the options.
    """
    if name == "tpe":
        # Parameters are modelled together, and trials that run at the same time are kept apart.
        options = {"multivariate": True, "constant_liar": True} | options
    return _make("sampler", name, SAMPLERS, import_optuna().samplers, options | {"seed": seed})


def _make(kind: str, name: str, known: dict[str, str], module: Any, options: dict[str, Any]) -> Any:
    if name not in known:
        raise ConfigError(f"hydra.sweeper.{kind}", f"there is no '{name}'{suggestion(name, known)}")
    found = getattr(module, known[name])
    given = {key: value for key, value in options.items() if value is not None}
    parameters = inspect.signature(found).parameters
    place = f"hydra.sweeper.{kind}_options"
    for key in given:
        if key not in parameters:
            raise ConfigError(f"{place}.{key}", f"{name} has no such option{suggestion(key, parameters)}")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in given:
            raise ConfigError(f"{place}.{key}", f"{name} needs a value")
    try:
        return found(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(place, f"{name} refuses them: {error}") from None


def remember_pruner(study: "optuna.Study", name: str, options: dict[str, Any]) -> None:
    """Write into the study how its trials are to be pruned: they decide in processes of their own."""
    study.pruner = make_pruner(name, options)
    study.set_user_attr(_PRUNER_ATTRIBUTE, {"name": name, "options": options})


def load_trial(study_name: str, storage: str, number: int) -> "optuna.Trial":
    """A trial of a study, with the study's pruner, in any process.

    Raises:
        ConfigError: there is no such trial.
    """
    optuna = import_optuna()
    opened = open_storage(storage)
    try:
        study = optuna.load_study(study_name=study_name, storage=opened)
        study_id = opened.get_study_id_from_name(study_name)
        trial_id = opened.get_trial_id_from_study_id_trial_number(study_id, number)
    except KeyError:
        raise ConfigError("sweep.trial", f"{storage} has no trial {number} of a study {study_name}") from None
    if (pruner := study.user_attrs.get(_PRUNER_ATTRIBUTE)) is not None:
        study.pruner = make_pruner(**pruner)
    return optuna.Trial(study, trial_id)
