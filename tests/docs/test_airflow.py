"""The page about Airflow stays true: its DAG parses, its pictures exist, its modules can be found."""

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "airflow.md").read_text()


def test_the_dags_parse(tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(programs) == 2
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    command = [sys.executable, "-W", "ignore", "-c", "\n".join(programs)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_every_file_that_it_names_exists() -> None:
    pictures_and_pages = re.findall(r"\]\(([^)#]+)\)", PAGE)
    sources = re.findall(r"`((?:dags|tests|scripts)/[\w./]+)`", PAGE)
    assert pictures_and_pages
    for name in pictures_and_pages:
        assert (DOCS / name).exists(), name
    for name in sources:
        assert (DOCS.parent / name).exists(), name


def test_every_module_that_it_names_exists() -> None:
    modules = set(re.findall(r"`mxpipe_airflow\.([a-z_.]+)`", PAGE))
    assert modules
    for name in modules:
        place = DOCS.parent / "operators" / "mxpipe_airflow" / name.replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").exists(), name
