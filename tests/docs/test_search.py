"""The pages about searching and housekeeping stay true: the program runs, the commands are known."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mxpipe.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMANDS = re.findall(r"\$ (mxpipe (?:.*\\\n)*.*)", (DOCS / "housekeeping.md").read_text())


@pytest.mark.slow
def test_the_search_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "search.md").read_text(), re.DOTALL)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "'optimizer.learning_rate': 0.0" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_known(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command.replace("\\\n", " ").replace("/var/lib/mxpipe", str(tmp_path)))
    assert main(words[1:]) == 0
    assert "0 found" in capsys.readouterr().out
