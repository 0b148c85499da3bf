"""How a text becomes rows for an objective, and a global batch becomes micro-batches."""

from ntp.config.errors import ConfigError
from ntp.config.schema import DataConfig
from ntp.data.datasets import Corruption
from ntp.data.prepare import Prepared
from ntp.data.store import TokenStore
from ntp.data.windows import Windows


def micro_batch_size(config: DataConfig, world_size: int) -> int:
    """Rows that one device takes at a time.

    Raises:
        ConfigError: the global batch does not divide into equal micro-batches.
    """
    if config.batch_size % world_size:
        raise ConfigError(
            "data.batch_size",
            f"{config.batch_size} rows do not divide among {world_size} devices; the nearest that does is "
            f"{_nearest_multiple(config.batch_size, world_size)}",
        )
    share = config.batch_size // world_size
    size = min(config.micro_batch_size or share, share)
    if share % size:
        divisors = [one for one in range(1, share + 1) if share % one == 0]
        nearest = min(divisors, key=lambda one: abs(one - size))
        raise ConfigError(
            "data.micro_batch_size", f"{share} rows a device do not divide into parts of {size}; try {nearest}"
        )
    return size


def _nearest_multiple(value: int, of: int) -> int:
    return max(of, round(value / of) * of)


def training_windows(prepared: Prepared, objective: Corruption, config: DataConfig) -> Windows:
    """Circular windows of the training text.

    Raises:
        ConfigError: the text is shorter than one row.
    """
    return _windows(prepared.train, objective, config, wrap=True)


def text_windows(store: TokenStore, objective: Corruption, config: DataConfig) -> Windows:
    """Windows of any text, each token predicted once, the last row short."""
    return _windows(store, objective, config, wrap=False)


def _windows(store: TokenStore, objective: Corruption, config: DataConfig, *, wrap: bool) -> Windows:
    stride = objective.raw_length(config.sequence_length) - objective.lookahead
    return Windows(store, stride=stride, lookahead=objective.lookahead, documents=config.documents, wrap=wrap)
