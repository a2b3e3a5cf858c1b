"""An operator at the terminal."""

from click.testing import Result
from flask import Flask


def typed(app: Flask, *words: str) -> Result:
    with app.app_context():
        result = app.test_cli_runner().invoke(args=list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def said(app: Flask, *words: str) -> str:
    """What a command says that goes well."""
    result = typed(app, *words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(app: Flask, *words: str) -> str:
    """What a command says that is refused, in words and not in a traceback."""
    result = typed(app, *words)
    assert result.exit_code != 0, result.output
    assert "Traceback" not in result.output
    return result.output
