"""The command `xpcnn`, run within the tests' own process."""

from __future__ import annotations

import re
from types import SimpleNamespace

from typer.testing import CliRunner

from xpcnn import cli


def invoke(*words):
    """What the command makes of the words; raises what users would see as a traceback."""
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def run(*words):
    """The exit status, and standard output and standard error without colours."""
    done = invoke(*words)
    out, err = (re.sub(r"\x1b\[[\d;]*m", "", text) for text in (done.stdout, done.stderr))
    return SimpleNamespace(status=done.exit_code, out=out, err=err)
