"""Check a composed configuration before anything expensive starts.

Hydra alone accepts ``+sede=3`` in silence. Here every key must be known, every value must have the right type and
range, and every argument of a ``_target_`` must be one that its class takes.
"""

import inspect
import json
import re
from typing import Any, TypeVar, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException
from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from ntp.config.errors import ConfigError
from ntp.config.instantiate import INSTANTIATE_KEYS, locate, walk_targets
from ntp.config.nearest import suggestion
from ntp.config.schema import CommonConfig, Section

AnySection = TypeVar("AnySection", bound=Section)
_INTERPOLATION = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")


def validate(config: DictConfig, schema: type[AnySection], *, arguments: bool = True) -> AnySection:
    """Resolve and check a composed config.

    Args:
        config: what Hydra composed, without its own ``hydra`` node.
        schema: the typed shape.
        arguments: check also what the classes of nodes with a ``_target_`` take, which imports them.

    Returns:
        The typed config; nodes with ``_target_`` stay plain dictionaries.

    Raises:
        ConfigError: names the key that is wrong and the nearest right one.
    """
    raw = OmegaConf.to_container(config, resolve=False)
    plain = resolve(config)
    for name in _referenced_keys(raw):
        _drop(plain, name.split("."), schema)
    try:
        # JSON mode is strict and still takes a list for a tuple: exactly what YAML can write.
        typed = schema.model_validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        raise _explain(error, schema, plain, raw) from None
    if arguments:
        check_arguments(plain, raw, typed.allow_targets if isinstance(typed, CommonConfig) else [])
    return typed


def check_arguments(plain: Any, raw: Any, allow: list[str]) -> None:
    """Check every node with a ``_target_`` against the signature of its class.

    Args:
        plain: resolved config.
        raw: the same with its interpolations, to name the key that a value comes from.
        allow: further packages that the user trusts.

    Raises:
        ConfigError: a class is refused, or does not take its arguments.
    """
    for key, node in walk_targets(plain, ""):
        _check_arguments(key, node, raw, allow)


def resolve(config: DictConfig) -> dict[str, Any]:
    """The config as plain containers, all interpolations resolved.

    Raises:
        ConfigError: a mandatory value is missing or an interpolation points nowhere.
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(str(error.full_key), "needs a value") from None
    except InterpolationKeyError as error:
        raise ConfigError(str(error.full_key), str(error.msg).split("\n")[0]) from None
    except OmegaConfBaseException as error:
        raise ConfigError(str(error.full_key or ""), str(error).split("\n")[0]) from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _referenced_keys(raw: Any) -> set[str]:
    """Keys that some other value interpolates: a config group may offer such keys of its own, as data=files does."""
    return set(_INTERPOLATION.findall(json.dumps(raw, default=str)))


def _drop(plain: dict[str, Any], path: list[str], schema: type[Section]) -> None:
    node: Any = plain
    fields: Any = schema
    for name in path[:-1]:
        field = fields.model_fields.get(name) if fields else None
        fields = _section_of(field.annotation) if field else None
        node = node.get(name) if isinstance(node, dict) else None
        if node is None or fields is None:
            return
    if isinstance(node, dict) and fields and path[-1] not in fields.model_fields:
        node.pop(path[-1], None)


def _section_of(annotation: Any) -> type[Section] | None:
    options = getattr(annotation, "__args__", (annotation,))
    return next((one for one in options if inspect.isclass(one) and issubclass(one, Section)), None)


def _explain(error: ValidationError, schema: type[Section], plain: dict[str, Any], raw: Any) -> ConfigError:
    """One line of the first thing that pydantic found wrong."""
    # Unknown keys first: a misspelt key is the likelier cause of whatever else is missing.
    details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    detail = details[0]
    path = _key_path(detail, plain)
    key = ".".join(str(part) for part in path)
    if detail["type"] == "extra_forbidden":
        section: Any = schema
        for part in path[:-1]:
            section = _section_of(section.model_fields[part].annotation)
        return ConfigError(key, f"no such key{suggestion(str(path[-1]), section.model_fields)}")
    return ConfigError(_source(key, raw), _phrase(detail))


def _key_path(detail: Any, plain: Any) -> list[str]:
    """pydantic's location without the names of union branches, which are no keys of the config."""
    path: list[str] = []
    node = plain
    for part in detail["loc"]:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif not (detail["type"] == "missing" and isinstance(node, dict)):
            break
        path.append(str(part))
    return path


def _phrase(detail: Any) -> str:
    if detail["type"] == "missing":
        return "needs a value"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("valid array", "valid list")
    message = message.replace("an object", "a mapping")
    given = detail["input"]
    shown = "" if isinstance(given, dict) else f", not {json.dumps(given)}"
    if detail["type"] == "dict_type" and isinstance(given, str) and detail["loc"]:
        group = "/".join(str(part) for part in detail["loc"])
        return f"is a group of options; choose one with a slash: {group}={given}"
    return f"{message[0].lower()}{message[1:]}{shown}"


def _source(key: str, raw: Any) -> str:
    """Where a value really comes from: ``data.corpus.path`` that reads ``${data.path}`` is set as ``data.path``."""
    node = raw
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    match = _INTERPOLATION.fullmatch(node) if isinstance(node, str) else None
    return match.group(1) if match else key


def _check_arguments(key: str, node: dict[str, Any], raw: Any, allow: list[str]) -> None:
    found = locate(node["_target_"], key, allow)
    parameters = inspect.signature(found).parameters
    names = [name for name, one in parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    hints = _argument_types(found)
    for name, value in node.items():
        place = f"{key}.{name}"
        if name in INSTANTIATE_KEYS:
            continue
        if name not in names and not takes_any:
            raise ConfigError(place, f"{found.__name__} takes no such argument{suggestion(name, names)}")
        if name in hints:
            _check_value(_source(place, raw), value, hints[name])
    for name in names:
        if parameters[name].default is inspect.Parameter.empty and name not in node:
            raise ConfigError(f"{key}.{name}", f"{found.__name__} needs this argument")


def _argument_types(found: type) -> dict[str, Any]:
    try:
        return get_type_hints(found.__init__, include_extras=True)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):  # annotations that exist only for a type checker
        return {}


def _check_value(key: str, value: Any, annotation: Any) -> None:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    except PydanticSchemaGenerationError:  # a class of somebody's that no YAML could spell
        return
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        # Of the branches of a union, the one that fits the value best is the one that it fails deepest in.
        detail = max(error.errors(), key=lambda one: len(one["loc"]))
        raise ConfigError(".".join([key, *_key_path(detail, value)]), _phrase(detail)) from None
