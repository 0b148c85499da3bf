"""Random search: trials that depend on nothing but the seed and their number."""

import zlib

import numpy as np

from ntp.sweep.space import Space


def draw(space: Space, seed: int, number: int) -> dict[str, str]:
    """The values of a trial, as they are written in overrides.

    Each key has draws of its own, so that the order of the keys on the command line, and further keys, change
    nothing.
    """
    values = {}
    for key, distribution in space.varied.items():
        words = np.random.SeedSequence([seed, number, zlib.crc32(key.encode())])
        values[key] = distribution.at(np.random.Generator(np.random.Philox(words)).random())
    return values
