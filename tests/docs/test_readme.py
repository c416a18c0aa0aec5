"""The README stays true: its program runs, its commands and paths exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_program_learns_what_it_says() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = re.search(r"accuracy ([0-9.]+)", result.stdout)
    assert found, result.stdout
    assert float(found.group(1)) > 0.95


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|\$ )make ([a-z]+)", README + CONTRIBUTING))))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^\$ mxpipe ([a-z]+)", README, re.MULTILINE))))
def test_every_command_exists(command: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mxpipe", command, "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_every_option_of_a_command_exists() -> None:
    for command, rest in re.findall(r"^\$ mxpipe ([a-z]+)(.*)$", README, re.MULTILINE):
        shown = subprocess.run(
            [sys.executable, "-m", "mxpipe", command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for option in re.findall(r"(?<!\S)(--[a-z-]+)", rest):
            assert option in shown, (command, option)


def test_every_path_and_picture_exists() -> None:
    rows = re.findall(r"^\| [a-z].*\|$", README.split("## Find your room")[1], re.MULTILINE)
    paths = {path for row in rows for path in re.findall(r"`([\w./]+/)`", row)}
    paths |= set(re.findall(r"`(tests/[\w./]+)`", README))
    paths |= set(re.findall(r"\]\(([\w./]+)\)", README))
    missing = [path for path in sorted(paths) if not (ROOT / path).exists()]
    assert missing == []


def test_the_changelog_knows_this_version() -> None:
    import mxpipe

    assert f"## {mxpipe.__version__}" in (ROOT / "CHANGELOG.md").read_text()
