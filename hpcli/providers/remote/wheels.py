"""The Python packages of a bundle: wheels for each Python and machine asked for, got by the pip that is here."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from hpcli.errors import HpcliError, NotFound, Unreachable
from hpcli.ports import Completed, Progress, Transport

LONGEST_DOWNLOAD = 1800.0
OLDEST_GLIBC = range(28, 16, -1)
"""Wheels for glibc 2.28 or older: Debian 10, Enterprise Linux 8, Ubuntu 18.10 and all that came after."""
USUAL = ("3.11", "3.12", "3.13", "3.14")
ROUNDS = 8
MOST_VERSIONS = 5
_BROKEN = re.compile(r"connection broken by '(.*)': ")
_ERROR = re.compile(r"^ERROR: (.*)", re.MULTILINE)
_NONE = re.compile(r"requirement ([^\s(]+).*\(from versions: ([^)]*)\)")
_OBJECT = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>: ")
_LOGIN = re.compile(r"://[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of machine that a bundle is for: Python, as "3.12", and `uname -m`."""

    python: str
    arch: str

    def __str__(self) -> str:
        return f"Python {self.python} on {self.arch}"

    @property
    def options(self) -> Iterator[str]:
        """pip's options that choose this machine's wheels."""
        names = (*(f"manylinux_2_{minor}_{self.arch}" for minor in OLDEST_GLIBC), f"manylinux2014_{self.arch}")
        yield from (word for name in names for word in ("--platform", name))
        yield from ("--python-version", self.python, "--implementation", "cp")

    @property
    def environment(self) -> Mapping[str, str]:
        """What markers of requirements see there (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.arch,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def usual_pythons() -> tuple[str, ...]:
    """Those of Debian 12 and later, and the one that runs hpcli here."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return USUAL if here in USUAL else (*USUAL, here)


@dataclass(frozen=True, slots=True)
class Downloads:
    """Gets wheels through the pip of `python`, on the machine of `transport`, from `index`; "" is pip's own choice."""

    transport: Transport
    python: str
    progress: Progress
    index: str = ""

    async def fetch(self, needs: Sequence[str], targets: Sequence[Target], folder: Path) -> None:
        """Put the wheels of `needs`, of all that they need, and pip's own into `folder`; what targets share once.

        Raises `Unreachable` when the index does not answer, `HpcliError` for a requirement without a wheel.
        """
        for target in targets:
            self.progress.step(f"wheels for {target}")
            await self._fetch(("pip", *needs), target, folder)

    async def _fetch(self, needs: Sequence[str], target: Target, folder: Path) -> None:
        """pip reads markers for the Python that it runs on: what another Python needs besides is asked for too."""
        for _ in range(ROUNDS):
            await self._download(needs, target, folder)
            lacking = missing(needs, target, folder)
            if not lacking:
                return
            needs = (*needs, *lacking)
        raise HpcliError(str(target), f"found no end of requirements, the last {needs[-1]}", "pin it in requirements")

    async def _download(self, needs: Sequence[str], target: Target, folder: Path) -> None:
        quiet = ("--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1")
        argv = [self.python, "-m", "pip", "download", *quiet, "--only-binary=:all:", *target.options]
        # An address may hold a login, which everybody here could read among the arguments.
        index = {"PIP_INDEX_URL": self.index} if self.index else {}
        answer = await self.transport.run(
            [*argv, "--dest", str(folder), "--", *needs], env={"LC_ALL": "C.UTF-8", **index}, timeout=LONGEST_DOWNLOAD
        )
        if answer.code:
            raise _fault(answer, target)


def missing(needs: Iterable[str], target: Target, folder: Path) -> tuple[str, ...]:
    """Requirements of `needs` for which `folder` has no wheel, looked for through all that they need at the target."""
    parse: Any = import_module("pip._vendor.packaging.requirements").Requirement
    wheels = _needs_by_name(folder)
    seen, lacking, todo = set[str](), dict[str, str](), list(needs)
    while todo:
        need = parse(todo.pop())
        # The extras that are asked for choose among its own requirements.
        key = f"{_canonical(need.name)}[{','.join(sorted(need.extras))}]"
        if key in seen or not _applies(need, target, ("",)):
            continue
        seen.add(key)
        if _canonical(need.name) not in wheels:
            lacking[key] = _unmarked(need)
            continue
        own = (parse(line) for line in wheels[_canonical(need.name)])
        todo += [_unmarked(one) for one in own if _applies(one, target, ("", *need.extras))]
    return tuple(sorted(lacking.values()))


def _applies(need: Any, target: Target, extras: Iterable[str]) -> bool:
    marker = need.marker
    return marker is None or any(marker.evaluate({**target.environment, "extra": extra}) for extra in extras)


def _unmarked(need: Any) -> str:
    return f"{need.name}{_bracket(need.extras)}{need.specifier}"


def _bracket(extras: Iterable[str]) -> str:
    return f"[{','.join(sorted(extras))}]" if extras else ""


def _needs_by_name(folder: Path) -> dict[str, list[str]]:
    """What each package of the folder needs, of several wheels of one all together."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.whl")):
        found.setdefault(_canonical(path.name.partition("-")[0]), []).extend(_requires(path))
    return found


def _requires(wheel: Path) -> list[str]:
    try:
        with ZipFile(wheel) as archive:
            (name,) = [one for one in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one)]
            text = archive.read(name).decode()
    except (BadZipFile, ValueError) as error:
        raise HpcliError(wheel.name, f"not a wheel: {error}", "run it again") from None
    return HeaderParser().parsestr(text).get_all("Requires-Dist", [])


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _fault(answer: Completed, target: Target) -> HpcliError:
    """The cause in pip's words, or the index's; a login in an address is left out."""
    words = _LOGIN.sub("://", answer.err or answer.out)
    if "No module named pip" in words:
        hint = "install it there: python -m ensurepip; Debian: apt-get install python3-venv"
        return NotFound("pip", "found none in the environment that hpcli runs in", hint)
    if broken := _BROKEN.search(words):
        hint = "is there a network? an index of your own: PIP_INDEX_URL, a certificate: PIP_CERT"
        return Unreachable("package index", _OBJECT.sub("", broken[1]), hint)
    if none := _NONE.search(words):
        versions = [one for one in none[2].split(", ") if one not in ("none", "")][-MOST_VERSIONS:]
        there = f" (newest there: {', '.join(versions)})" if versions else ""
        return HpcliError(none[1], f"found no wheel for {target}{there}", "leave that Python out: --python, --arch")
    error = _ERROR.search(words)
    last = words.strip().splitlines()[-1:] or [f"ended with {answer.code}"]
    return HpcliError("pip download", error[1] if error else last[0], "run it again, or look at pip's configuration")
