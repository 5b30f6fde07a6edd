"""`hpcli bundle`: what is in the archive, which wheels it asks for, and what it says when it cannot have them."""

import io
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest
from click.testing import CliRunner

from hpcli.cli.bundle import bundle
from hpcli.errors import HpcliError, NotFound, Unreachable, UsageFault
from hpcli.ports import Completed
from hpcli.providers.remote.bundle import bundle_name, write_bundle
from hpcli.providers.remote.release import pack_files, pack_folder, this_release
from hpcli.providers.remote.wheels import Downloads, Target, missing
from hpcli.transport.process import LocalTransport

SMALL_DISK = """
import resource, sys
from pathlib import Path
from hpcli.providers.remote.bundle import write_bundle
from hpcli.providers.remote.release import this_release
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
write_bundle(Path(sys.argv[1]), this_release(), "0.2.0", Path(sys.argv[2]))
"""
X86 = Target("3.12", "x86_64")


class Quiet:
    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)


class PipOf:
    """This machine's real pip, which knows nothing but a folder, or an index that is not there."""

    def __init__(self, **settings: str) -> None:
        self.env = {"PIP_CONFIG_FILE": "/dev/null", **settings}
        self.calls: list[Sequence[str]] = []

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        self.calls.append(argv)
        return await LocalTransport().run(argv, stdin=stdin, env={**(env or {}), **self.env}, cwd=cwd, timeout=timeout)


def wheel(folder: Path, name: str, *needs: str, tags: str = "py3-none-any", version: str = "1.0") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tags}.whl"
    with ZipFile(path, "w") as archive:
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(
            f"{name}-{version}.dist-info/METADATA", head + "".join(f"Requires-Dist: {need}\n" for need in needs)
        )
        archive.writestr(
            f"{name}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n"
        )
        archive.writestr(f"{name}-{version}.dist-info/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Packages to be had: pip, `both` in a wheel for each of two Pythons, `old` which only Python 3.11 needs."""
    folder = tmp_path / "index"
    wheel(folder, "pip")
    wheel(folder, "pure", "both>=1", 'old; python_version < "3.12"', 'x86; platform_machine == "x86_64"')
    wheel(folder, "both", tags="cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64")
    wheel(folder, "both", tags="cp312-cp312-manylinux_2_28_x86_64")
    wheel(folder, "old")
    wheel(folder, "x86")
    return folder


def downloads(index: Path, **settings: str) -> Downloads:
    return Downloads(PipOf(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index), **settings), sys.executable, Quiet())


def names(folder: Path) -> list[str]:
    return sorted(path.name.partition(".whl")[0] for path in folder.iterdir())


async def test_each_python_gets_its_wheels_and_what_they_share_is_there_once(index: Path, tmp_path: Path) -> None:
    got = tmp_path / "got"
    work = downloads(index)
    await work.fetch(["pure"], [Target("3.11", "x86_64"), X86], got)
    assert names(got) == [
        "both-1.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64",
        "both-1.0-cp312-cp312-manylinux_2_28_x86_64",
        *("old-1.0-py3-none-any", "pip-1.0-py3-none-any", "pure-1.0-py3-none-any", "x86-1.0-py3-none-any"),
    ]


async def test_what_another_python_needs_besides_is_asked_for(tmp_path: Path) -> None:
    """pip reads markers for the Python that it runs on."""
    index, got = tmp_path / "index", tmp_path / "got"
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    later = f"3.{sys.version_info[1] + 1}"
    wheel(index, "pip")
    wheel(index, "pure", f'first>=1; python_version != "{here}"', "never; os_name == 'nt'")
    wheel(index, "first", f'second[more]; python_version != "{here}"')
    wheel(index, "second", f'third; extra == "more" and python_version != "{here}"', 'fourth; extra == "less"')
    wheel(index, "third")
    await downloads(index).fetch(["pure"], [Target(later, "x86_64")], got)
    assert {name.partition("-")[0] for name in names(got)} == {"pip", "pure", "first", "second", "third"}


def test_missing_names_what_is_not_there(tmp_path: Path) -> None:
    wheel(tmp_path, "typing_extensions", "Some.Thing>=2")
    assert missing(["Typing-Extensions>=1"], X86, tmp_path) == ("Some.Thing>=2",)
    wheel(tmp_path, "some_thing", version="2.0")
    assert missing(["Typing-Extensions>=1"], X86, tmp_path) == ()


async def test_a_requirement_without_a_wheel_for_a_python_is_named(index: Path, tmp_path: Path) -> None:
    with pytest.raises(HpcliError) as found:
        await downloads(index).fetch(["pure"], [X86, Target("3.13", "x86_64")], tmp_path / "got")
    assert (found.value.subject, found.value.message) == ("both>=1", "found no wheel for Python 3.13 on x86_64")


async def test_a_requirement_whose_wheels_are_too_old_says_which_there_are(index: Path, tmp_path: Path) -> None:
    with pytest.raises(HpcliError) as found:
        await downloads(index).fetch(["old>=2"], [X86], tmp_path / "got")
    assert found.value.message == "found no wheel for Python 3.12 on x86_64 (newest there: 1.0)"


async def test_a_wheel_of_another_machine_is_no_wheel(index: Path, tmp_path: Path) -> None:
    with pytest.raises(HpcliError, match=r"for Python 3\.12 on aarch64"):
        await downloads(index).fetch(["both"], [Target("3.12", "aarch64")], tmp_path / "got")


async def test_without_a_network_the_index_says_why_and_no_login_is_shown(tmp_path: Path) -> None:
    pip, index = PipOf(), "http://anna:hidden@127.0.0.1:9/simple"
    with pytest.raises(Unreachable) as found:
        await Downloads(pip, sys.executable, Quiet(), index).fetch(["click"], [X86], tmp_path / "got")
    assert "Connection refused" in found.value.message
    assert " object at " not in found.value.message
    assert "hidden" not in f"{found.value} {found.value.hint} {pip.calls}"


class Says:
    """A pip that ends with these words."""

    def __init__(self, err: str) -> None:
        self.err = err

    async def run(self, argv: Sequence[str], **_: object) -> Completed:
        return Completed(tuple(argv), 1, "", self.err)


@pytest.mark.parametrize(
    ("said", "subject", "message"),
    [
        (
            "WARNING: old\nERROR: HTTP error 403 while getting https://anna:hidden@own/x.whl\nERROR: again\n",
            "pip download",
            "HTTP error 403 while getting https://own/x.whl",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n\n",
            "pip download",
            "Could not install packages due to an OSError: [Errno 28] No space left on device",
        ),
        ("Killed\n", "pip download", "Killed"),
        ("", "pip download", "ended with 1"),
        (
            "ERROR: Could not find a version that satisfies the requirement core==2.5 (from pydantic) "
            "(from versions: 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)\nERROR: No matching distribution found for core==2.5\n",
            "core==2.5",
            "found no wheel for Python 3.12 on x86_64 (newest there: 1.1, 1.2, 1.3, 1.4, 1.5)",
        ),
    ],
)
async def test_pips_words_become_one_cause(said: str, subject: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(HpcliError) as found:
        await Downloads(Says(said), "python3", Quiet()).fetch(["click"], [X86], tmp_path)
    assert (found.value.subject, found.value.message) == (subject, message)


async def test_an_environment_without_pip_is_named(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    made = await LocalTransport().run([sys.executable, "-m", "venv", "--without-pip", str(bare)])
    assert made.code == 0
    with pytest.raises(NotFound, match="found none in the environment"):
        await Downloads(PipOf(), str(bare / "bin" / "python"), Quiet()).fetch(["click"], [X86], tmp_path / "got")


def members(path: Path) -> dict[str, tuple[int, bytes]]:
    with tarfile.open(path) as tar:
        return {one.name: (one.mode, tar.extractfile(one).read()) for one in tar}  # type: ignore[union-attr]


def test_the_same_content_gives_the_same_bytes(index: Path, tmp_path: Path) -> None:
    one = write_bundle(tmp_path / "one.tar.gz", this_release(), "0.2.0", index)
    later = tmp_path / "later"
    later.mkdir()
    for path in sorted(index.iterdir(), reverse=True):
        (later / path.name).write_bytes(path.read_bytes())
    two = write_bundle(tmp_path / "two.tar.gz", this_release(), "0.2.0", later)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.path.read_bytes()[4:8] == bytes(4), "gzip's own time of day"
    assert (one.sha256, one.size) == (two.sha256, two.path.stat().st_size)


def test_it_holds_what_install_needs_and_nothing_of_this_machine(index: Path, tmp_path: Path) -> None:
    release = this_release()
    written = write_bundle(tmp_path / bundle_name(release, "0.2.0"), release, "0.2.0", index)
    assert written.path.name == f"hpcli-0.2.0-{release.id}.tar.gz"
    found = members(written.path)
    assert all(name.startswith("hpcli-bundle/") for name in found)
    assert found["hpcli-bundle/install"] == (0o755, found["hpcli-bundle/lifecycle/install"][1])
    assert found["hpcli-bundle/release"][1].decode() == f"{release.id}\n"
    assert found["hpcli-bundle/version"][1] == b"0.2.0\n"
    assert found["hpcli-bundle/lifecycle/run.sh"][0] == 0o755
    assert b"click" in found["hpcli-bundle/code/requirements.txt"][1]
    assert {name.rpartition("/")[2] for name in found if "/wheels/" in name} == {one.name for one in index.iterdir()}
    own = str(Path(__file__).parents[2]).encode()
    assert [name for name, (_, content) in found.items() if own in content] == []
    assert written.path.stat().st_mode & 0o777 == 0o644


def test_a_bundle_with_a_sites_files_is_its_owners_alone(index: Path, tmp_path: Path) -> None:
    files = pack_files([("/etc/hpcli/node.conf", 0o600, "root", "root", "HPCLI_ROLE=compute\n")])
    written = write_bundle(tmp_path / "kit.tar.gz", this_release(), "0.2.0", index, {"c1": files})
    assert written.path.stat().st_mode & 0o777 == 0o600
    assert members(written.path)["hpcli-bundle/site/c1.tar"] == (0o600, files)


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(index: Path, tmp_path: Path) -> None:
    with pytest.raises(HpcliError, match=r"/dev/full/x\.tar\.gz: found Not a directory"):
        write_bundle(Path("/dev/full/x.tar.gz"), this_release(), "0.2.0", index)
    with pytest.raises(HpcliError, match="found no wheels"):
        write_bundle(tmp_path / "x.tar.gz", this_release(), "0.2.0", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


async def test_a_disk_that_fills_up_leaves_what_was_there(index: Path, tmp_path: Path) -> None:
    path = tmp_path / "there.tar.gz"
    path.write_text("the one before")
    answer = await LocalTransport().run([sys.executable, "-c", SMALL_DISK, str(path), str(index)])
    assert "there.tar.gz: found File too large, expected to write it" in answer.err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["index", "there.tar.gz"]
    assert path.read_text() == "the one before"


def test_an_unpacked_bundle_is_a_folder_of_packages(index: Path, tmp_path: Path) -> None:
    written = write_bundle(tmp_path / "one.tar.gz", this_release(), "0.2.0", index, {"c1": b"secret"})
    with tarfile.open(written.path) as tar:
        tar.extractall(tmp_path, filter="data")
    with tarfile.open(fileobj=io.BytesIO(pack_folder(tmp_path / "hpcli-bundle").archive)) as tar:
        names = tar.getnames()
        assert "wheels/pip-1.0-py3-none-any.whl" in names
        assert [name for name in names if not name.startswith("wheels/")] == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--python", "3.10"), "found 3.10, expected a version from 3.11"),
        (("--python", "3"), "found 3, expected a version from 3.11"),
        (("--arch", "x86/64"), "found x86/64, expected what `uname -m` says"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(args: tuple[str, ...], words: str) -> None:
    found = CliRunner().invoke(bundle, args)
    assert isinstance(found.exception, UsageFault)
    assert found.exception.message == words


def test_a_folder_that_is_not_there_is_named_first() -> None:
    found = CliRunner().invoke(bundle, ["-o", "/nonexistent/x.tar.gz"])
    assert isinstance(found.exception, NotFound)
    assert found.exception.subject == "/nonexistent"
