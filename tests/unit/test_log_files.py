"""Growing files, read here and as on a login node: one contract for both."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hpcli.errors import HpcliError, Unreachable
from hpcli.ports import Completed
from hpcli.probe.clock import SystemClock
from hpcli.services.log_files import LocalFiles, LogFiles
from hpcli.services.remote_files import RemoteFiles
from hpcli.transport.process import LocalTransport


@pytest.fixture(params=["local", "remote"])
def files(request: pytest.FixtureRequest) -> LogFiles:
    return LocalFiles(SystemClock()) if request.param == "local" else RemoteFiles(LocalTransport())


async def said(files: LogFiles, path: Path) -> str:
    """All that is there now."""
    text = ""
    while news := await files.news(0):
        assert {name for name, _ in news} == {str(path)}
        text += "".join(words for _, words in news)
    return text


class TestGrowing:
    async def test_comes_grows_is_truncated_and_is_replaced(self, files: LogFiles, tmp_path: Path) -> None:
        log = tmp_path / "a log"
        files.watch([str(log)], 5)
        assert await said(files, log) == ""
        log.write_text("one\n")
        assert await said(files, log) == "one\n"
        with log.open("a") as more:
            more.write("two\n")
        assert (await said(files, log), await said(files, log)) == ("two\n", "")
        log.write_text("new\n")
        assert await said(files, log) == "new\n"
        other = tmp_path / "other"
        other.write_text("replaced, and longer\n")
        other.rename(log)
        assert await said(files, log) == "replaced, and longer\n"

    async def test_goes_and_comes_back(self, files: LogFiles, tmp_path: Path) -> None:
        log, away = tmp_path / "log", tmp_path / "away"
        log.write_text("one\n")
        files.watch([str(log)], 0)
        assert await said(files, log) == "one\n"
        log.rename(away)
        assert await said(files, log) == ""
        with away.open("a") as more:
            more.write("two\n")
        away.rename(log)
        assert await said(files, log) == "two\n"
        log.rename(away)
        assert await said(files, log) == ""
        log.write_text("other\n")
        assert await said(files, log) == "other\n"

    async def test_a_letter_written_in_two_halves(self, files: LogFiles, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_bytes("ü".encode()[:1])
        files.watch([str(log)], 0)
        assert await said(files, log) == ""
        log.write_bytes("ü".encode() + b"\xff")
        assert await said(files, log) == "ü\ufffd"

    @pytest.mark.parametrize(("lines", "rest"), [(0, "1\n2\n3"), (1, "3"), (2, "2\n3"), (9, "1\n2\n3")])
    async def test_starts_some_lines_before_the_end(
        self, files: LogFiles, tmp_path: Path, lines: int, rest: str
    ) -> None:
        log = tmp_path / "log"
        log.write_text("1\n2\n3")
        files.watch([str(log)], lines)
        assert await said(files, log) == rest
        assert await files.last([str(log), "/nosuch"], lines) == {str(log): rest}

    async def test_more_than_one_reading_holds(self, files: LogFiles, tmp_path: Path) -> None:
        log = tmp_path / "log"
        text = "".join(f"{n:07}\n" for n in range(1_300_000))
        log.write_text(text)
        files.watch([str(log)], 0)
        assert await said(files, log) == text
        assert await files.last([str(log)], 0) == {str(log): text}
        assert await files.last([str(log)], 200_000) == {str(log): text[-1_600_000:]}

    async def test_many_files_and_names_of_all_kinds(self, files: LogFiles, tmp_path: Path) -> None:
        names = ["a b", " c ", "-n", "$HOME", "`id`", "ü", "*", "\\", "'", '"', "%s", "c\td", "0 1"]
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.write_text(f"of {path.name}\n")
        (tmp_path / "empty").touch()
        files.watch([*map(str, paths), str(tmp_path / "empty")], 0)
        assert dict(await files.news(0)) == {str(path): f"of {path.name}\n" for path in paths}
        assert (await files.news(0), await files.last([str(tmp_path / "empty")], 3)) == ([], {f"{tmp_path}/empty": ""})

    async def test_waits_for_news_and_no_longer(self, files: LogFiles, tmp_path: Path) -> None:
        began = time.monotonic()
        assert list(await files.news(0.5)) == []
        files.watch([str(tmp_path / "log")], 0)
        assert list(await files.news(0.5)) == []
        assert 1.0 <= time.monotonic() - began < 10
        (tmp_path / "log").write_text("x")
        assert list(await files.news(600)) == [(str(tmp_path / "log"), "x")]

    async def test_what_is_no_file(self, files: LogFiles, tmp_path: Path) -> None:
        files.watch([str(tmp_path)], 0)
        with pytest.raises(HpcliError, match="readable file"):
            await files.news(0)


class Cut:
    """A way to this machine that can be cut: before a program runs, or when it has answered."""

    def __init__(self) -> None:
        self.cuts: list[str] = []
        self.runs = 0

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        self.runs += 1
        cut = self.cuts.pop(0) if self.cuts else ""
        if cut == "before":
            raise Unreachable("host x", "connection refused by x port 22")
        done = await LocalTransport().run(argv, stdin=stdin, env=env, cwd=cwd, timeout=timeout)
        if cut == "after":
            raise Unreachable("host x", "the connection was lost while sh ran; it may still run there")
        return done


async def test_a_cut_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    way = Cut()
    files, log, seen = RemoteFiles(way), tmp_path / "log", ""
    log.write_text("0\n1\n")
    files.watch([str(log)], 1)
    for number, cut in enumerate(["", "after", "before", "after", ""], start=2):
        with log.open("a") as more:
            more.write(f"{number}\n")
        way.cuts = [cut] if cut else []
        try:
            seen += "".join(text for _, text in await files.news(0))
        except Unreachable:
            assert cut
    assert seen == "2\n3\n4\n5\n6\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_what_may_not_be_read(files: LogFiles, tmp_path: Path) -> None:
    (tmp_path / "log").touch(mode=0o000)
    files.watch([str(tmp_path / "log")], 0)
    with pytest.raises(HpcliError, match="Permission denied"):
        await files.news(0)
