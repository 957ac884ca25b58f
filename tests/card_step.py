"""The steps of the model card, called as a user calls them."""

import contextlib
import importlib
import io


def card_step(script: str, *arguments: object) -> str:
    """Call one of the commands in this process; gives what it printed, and insists that it succeeds."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert importlib.import_module(script).main([str(argument) for argument in arguments]) == 0
    return said.getvalue()
