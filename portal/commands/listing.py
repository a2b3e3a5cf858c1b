"""A page of a long list at the terminal: its lines, and what to type for those after them."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import click

Line = TypeVar("Line")


def tell(lines: Sequence[Line], before: str | None, told: Callable[[Line], str]) -> None:
    """Print the lines as `told` writes them. before: where the next page begins; None at the end."""
    for line in lines:
        click.echo(told(line))
    if not lines:
        click.echo("There are none.")
    elif before:
        click.echo(f"There are more: --before {before}")
