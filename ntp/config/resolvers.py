"""What ``${...:}`` may say in a config beside OmegaConf's own."""

import os
import secrets

from omegaconf import OmegaConf


def register() -> None:
    """Register the resolvers; doing it twice is harmless."""
    # Two runs that start within one second must not share a directory.
    OmegaConf.register_new_resolver("short_id", lambda: secrets.token_hex(3), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("cache_dir", default_cache_dir, replace=True)


def default_cache_dir() -> str:
    """Where prepared data lies: ``$NTP_CACHE``, else ``$XDG_CACHE_HOME/ntp``, else ``~/.cache/ntp``."""
    if cache := os.environ.get("NTP_CACHE"):
        return cache
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ntp")
