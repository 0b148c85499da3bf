"""A configuration as a tree, for people."""

from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.tree import Tree


def print_config(config: dict[str, Any]) -> None:
    """Print a resolved config to stdout, a branch for each part."""
    import yaml

    tree = Tree("config", guide_style="dim")
    for name, value in config.items():
        if isinstance(value, dict) and value:
            branch = tree.add(f"[bold]{name}[/bold]")
            branch.add(Syntax(yaml.safe_dump(value, sort_keys=False).rstrip(), "yaml", background_color="default"))
        else:
            tree.add(f"[bold]{name}[/bold]: {value!r}")
    Console().print(tree)
