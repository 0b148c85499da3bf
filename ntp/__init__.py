"""Pre-train language models under any objective, and find out which objective is better."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ntp")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
