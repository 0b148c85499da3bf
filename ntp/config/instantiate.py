"""The one door through which a config builds an object.

A config file can come from anywhere, so a ``_target_`` may only name a class of ntp, torch or lightning, of a
package registered as a plug-in, or of a package that the user allows by name (``allow_targets``).
"""

import importlib
import inspect
import re
from collections.abc import Iterable
from typing import Any

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion
from ntp.config.search_path import OWN_PACKAGES, allowed_packages

INSTANTIATE_KEYS = frozenset({"_target_", "_recursive_", "_convert_"})


def locate(target: str, key: str, allow: Iterable[str] = ()) -> type:
    """The class that a ``_target_`` names.

    Args:
        target: full dotted name.
        key: the config key it stands under, for messages.
        allow: further packages that the user trusts.

    Raises:
        ConfigError: the package is not allowed, nothing has this name, or it is not a class.
    """
    where = f"{key}._target_"
    allowed = allowed_packages() | set(allow)
    package = target.split(".")[0]
    if package not in allowed:
        raise ConfigError(
            where, f"'{target}' is outside {', '.join(sorted(allowed))}; to trust it, set allow_targets=[{package}]"
        )
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise ConfigError(where, f"'{target}' needs the package '{error.name}', which is not installed") from error
        raise ConfigError(where, f"there is no module '{module_name}'") from error
    found = getattr(module, name, None)
    if found is None:
        classes = [one for one, value in vars(module).items() if inspect.isclass(value)]
        raise ConfigError(where, f"'{module_name}' has no '{name}'{suggestion(name, classes)}")
    # Functions such as torch.load run code or read files; classes are what a config is for. The second test sees
    # through names that an allowed module merely imports, such as ntp.cli.subprocess.Popen.
    if not inspect.isclass(found):
        raise ConfigError(where, f"'{target}' is not a class")
    home = found.__module__.split(".")[0]
    if home not in allowed and not (home == "pytorch_lightning" and "lightning" in OWN_PACKAGES):
        raise ConfigError(where, f"'{target}' comes from '{home}', which is not allowed")
    return found


def locate_as(base: type, node: dict[str, Any], key: str, allow: Iterable[str] = ()) -> type:
    """The class of a config node, which must be a kind of ``base``.

    Raises:
        ConfigError: it is refused, or it is something else.
    """
    found = locate(node["_target_"], key, allow)
    if not issubclass(found, base):
        wanted = f"{base.__module__}.{base.__name__}"
        raise ConfigError(f"{key}._target_", f"{node['_target_']} is not a subclass of {wanted}")
    return found


def build(node: dict[str, Any], key: str, *, base: type = object, allow: Iterable[str] = (), **provided: Any) -> Any:
    """Build the object that a validated config node describes.

    Args:
        node: plain container with ``_target_`` and arguments.
        key: the config key of the node, for messages.
        base: the class that the object must be a kind of.
        allow: further packages that the user trusts.
        provided: arguments that the program supplies; they win over the node's.

    Raises:
        ConfigError: the target is refused, or its constructor finds an argument wrong (any ``ValueError``).
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    locate_as(base, node, key, allow)
    for place, inner in walk_targets(node, key):
        locate(inner["_target_"], place, allow)
    try:
        return instantiate({**node, "_convert_": "all"}, **provided)
    except InstantiationException as error:
        cause = error.__cause__
        # Hydra says which inner node it was building; a class names its own keys as if it stood at the root.
        found = re.search(r"^full_key: (\S+)$", str(error), re.MULTILINE)
        place = f"{key}.{found[1]}" if found else key
        if isinstance(cause, ConfigError):
            if cause.key == key or cause.key.startswith(f"{key}."):
                raise ConfigError(place + cause.key.removeprefix(key), cause.problem) from cause
            raise cause from None
        if isinstance(cause, ValueError):
            raise ConfigError(place, str(cause)) from cause
        raise (cause or error) from None


def walk_targets(node: Any, key: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Every node with a ``_target_`` at or below ``node``, with its key."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from walk_targets(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk_targets(value, f"{key}[{index}]")
