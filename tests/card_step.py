"""The steps of the model card, called as a user calls them."""

import contextlib
import importlib
import io
import signal


def card_step(script: str, *arguments: object) -> str:
    """Call one of the commands in this process; gives what it printed, and insists that it succeeds."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = importlib.import_module(script).main([str(argument) for argument in arguments])
    if code == 128 + signal.SIGTERM:
        # A time limit around all the tests ended what ran just then: no fault of this one, and no more are to begin.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt(f"{script} was terminated")
    assert code == 0, f"{script} ended with exit code {code}"
    return said.getvalue()
