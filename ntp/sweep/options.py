"""The options of a launcher or a sweeper, which Hydra hands over unchecked."""

from typing import Any, TypeVar

from omegaconf import OmegaConf

from ntp.config.errors import ConfigError
from ntp.config.schema import Section
from ntp.config.validation import validate

AnyOptions = TypeVar("AnyOptions", bound=Section)


def read_options(schema: type[AnyOptions], options: dict[str, Any], key: str) -> AnyOptions:
    """The options, checked.

    Args:
        schema: their typed shape.
        options: as Hydra gives them.
        key: where they stand, such as ``hydra.sweeper``.

    Raises:
        ConfigError: names the key that is wrong.
    """
    try:
        return validate(OmegaConf.create(options), schema)
    except ConfigError as error:
        raise ConfigError(f"{key}.{error.key}", error.problem) from None
