"""What is shipped: nothing missing from the wheel, nothing heavy at the start, modules that stay small."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for path in (ROOT / "hpcli").rglob("*.py") if not path.is_symlink())
SOURCES = ("hpcli", "templates", "lifecycle-scripts", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
DATA = (
    "hpcli/py.typed",
    "hpcli/health/xid.yaml",
    "hpcli/templates/slurm/slurm.conf.j2",
    "hpcli/templates/clusters/local.yaml",
    "hpcli/templates/jobs/train.sbatch",
    "hpcli/templates/jobs/train.py",
    "hpcli/lifecycle-scripts/slurm/prolog",
    "hpcli/lifecycle-scripts/run.sh",
    "hpcli/lifecycle-scripts/lib/packages",
    "hpcli/lifecycle-scripts/common/10-packages",
)
EXECUTABLE = ("hpcli/lifecycle-scripts/slurm/prolog", "hpcli/lifecycle-scripts/run.sh")
MOST_LINES = 300
HEAVY = {"paramiko", "rich", "pydantic", "jinja2", "click", "asyncio", "numpy", "yaml", "ClusterShell"}
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built as `pip` would build it from a source distribution."""
    if not (find_spec("setuptools") and int(version("setuptools").partition(".")[0]) >= 77):
        pytest.skip("skipped: no setuptools of 77 or later")
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        copy(ROOT / name, source / name)
    sdist = build("build_sdist", source)
    with tarfile.open(sdist) as archive:
        # Python 3.11.2, Debian 12's, knows no extraction filter yet.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder / "sdist", **safely)
    [unpacked] = (folder / "sdist").iterdir()
    return build("build_wheel", unpacked)


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def build(what: str, source: Path) -> Path:
    argv = [sys.executable, "-c", BUILD, what, str(source / "dist")]
    done = subprocess.run(argv, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return source / "dist" / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; what it depends on is looked up in ours."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    argv = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
        "-q",
        str(wheel),
    ]
    done = subprocess.run(
        argv, capture_output=True, text=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    )
    assert done.returncode == 0, done.stderr
    [site] = venv.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv


def run_installed(venv: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run([venv / "bin" / "hpcli", *args], cwd=venv, env=env, capture_output=True, text=True)


def test_the_wheel_is_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        modes = {name: archive.getinfo(name).external_attr >> 16 & 0o777 for name in EXECUTABLE}
    modules = {str(path.relative_to(ROOT)) for path in MODULES if "templates" not in path.parts}
    assert (set(DATA) | modules) - names == set()
    assert [name for name in names if name.startswith(("tests", "templates", "build"))] == []
    assert all(mode & 0o111 == 0o111 for mode in modes.values()), modes


def test_an_installed_one_finds_its_files_from_anywhere(installed: Path) -> None:
    [package] = installed.glob("lib/python*/site-packages/hpcli")
    assert [name for name in DATA if not (package.parent / name).is_file()] == []
    assert all(os.access(package.parent / name, os.X_OK) for name in EXECUTABLE)
    assert not (package / "templates").is_symlink()
    assert run_installed(installed, "--version").stdout.startswith("hpcli ")
    spec = str(package / "templates" / "clusters" / "local.yaml")
    checked = run_installed(installed, "cluster", "validate", "-f", spec)
    assert (checked.returncode, "no problems" in checked.stdout) == (0, True), checked.stderr


@pytest.mark.skipif(not shutil.which("scontrol"), reason="skipped: Slurm is not installed")
def test_an_installed_one_renders(installed: Path) -> None:
    [package] = installed.glob("lib/python*/site-packages/hpcli")
    spec = str(package / "templates" / "clusters" / "local.yaml")
    rendered = run_installed(installed, "cluster", "render", "-f", spec)
    assert (rendered.returncode, "ClusterName=demo" in rendered.stdout) == (0, True), rendered.stderr


def test_the_version_costs_no_import() -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "hpcli", "--version"]
    err = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stderr
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in err.splitlines()}
    assert "hpcli" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_answers_two_questions(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, f"{lines} lines: look for the second question"
    if path.name == "__init__.py":
        assert path.read_bytes() == b""


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in MODULES if "templates" not in path.parts}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_docs_never_install_somebody_elses_hpcli() -> None:
    """That name on the package index is something else: ours is hpcli-slurm, or a checkout."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docker-slurm").glob("*"), ROOT / "run"]
    bare = re.compile(r"pip3?\s+install\s+(?:-\S+\s+)*[\"']?hpcli(?![-\w])")
    assert bare.search("pip install -U hpcli") and bare.search('pip install "hpcli[demo]"')
    assert not bare.search("pip install hpcli-slurm")
    texts = {str(path): path.read_text() for path in documents if path.is_file()}
    assert [name for name, text in texts.items() if bare.search(text)] == []
