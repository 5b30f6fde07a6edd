"""Names for clusters: where they point, how they are kept, which one counts."""

import os
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcli.app_context import ControllerThroughLogin, meant
from hpcli.domain.cluster import Built
from hpcli.domain.context import Context, Contexts, parse_login
from hpcli.errors import HpcliError, NotFound, Unreachable, Unsafe, UsageFault
from hpcli.ports import Completed
from hpcli.services.contexts import check_new, keep, look, remove, rows, use
from hpcli.store.contexts import ContextFile, contexts_path
from hpcli.transport.process import LocalTransport

PROD = Context("prod", "login.example.org", "ada", 2222, slurm_conf="/opt/slurm.conf")
PROD_PLAIN = Context("prod", "login.example.org")
LAB = Context("lab", slurm_conf="/lab/slurm.conf")


class TestLogin:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("login", ("login", "", 0)),
            ("ada@login.example.org", ("login.example.org", "ada", 0)),
            ("ada@10.0.0.1:2222", ("10.0.0.1", "ada", 2222)),
            ("[fd00::1]:22", ("fd00::1", "", 22)),
            ("ada@[fd00::1]", ("fd00::1", "ada", 0)),
        ],
    )
    def test_is_read_and_written(self, text: str, parts: tuple[str, str, int]) -> None:
        assert parse_login(text) == parts
        shown = Context("x", *parts).where
        assert parse_login(shown) == parts

    @pytest.mark.parametrize("text", ["", "@h", "ada@", "h:", "h:0", "h:70000", "h:ssh", "a@b@c", "fd00::1", "h:22:22"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(UsageFault, match="expected USER@HOST:PORT"):
            parse_login(text)


class TestFile:
    def test_keeps_everything_for_its_owner_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "config" / "hpcli" / "contexts.json"
        file = ContextFile(path)
        assert file.read() == Contexts()
        before = os.umask(0)
        file.change(lambda known: known.with_added(PROD).with_added(LAB).using("lab"))
        os.umask(before)
        assert ContextFile(path).read() == Contexts("lab", {"prod": PROD, "lab": LAB})
        assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)] == [0o600, 0o700]
        assert list(path.parent.iterdir()) == [path]

    def test_a_change_that_is_refused_changes_nothing(self, tmp_path: Path) -> None:
        file = ContextFile(tmp_path / "contexts.json")
        file.change(lambda known: known.with_added(PROD))
        with pytest.raises(UsageFault, match=r"found one already, at ada@login\.example\.org:2222"):
            file.change(lambda known: known.with_added(PROD))
        assert file.read().known == {"prod": PROD}

    def test_changes_at_once_are_all_kept(self, tmp_path: Path) -> None:
        file = ContextFile(tmp_path / "contexts.json")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: keep(file, Context(f"c{n}", "h"), None), range(40)))
        assert len(file.read().known) == 40

    @pytest.mark.parametrize(
        "text", ["{", "[]", '{"version": 2}', '{"version": 1, "current": "", "contexts": {"a": {"nope": 1}}}', "\udcff"]
    )
    def test_a_damaged_one_is_named(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "contexts.json"
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(HpcliError, match=str(path)):
            ContextFile(path).read()

    def test_an_empty_one_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "contexts.json").touch()
        assert ContextFile(tmp_path / "contexts.json").read() == Contexts()

    @pytest.mark.parametrize(
        ("environ", "path"),
        [
            ({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/x/hpcli/contexts.json"),
            ({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}, "/h/.config/hpcli/contexts.json"),
            ({"HOME": "/h"}, "/h/.config/hpcli/contexts.json"),
            ({}, "None"),
        ],
    )
    def test_where_it_lies(self, environ: dict[str, str], path: str) -> None:
        assert str(contexts_path(environ)) == path

    def test_without_a_home(self) -> None:
        assert ContextFile(None).read() == Contexts()
        with pytest.raises(HpcliError, match="HOME"):
            ContextFile(None).change(lambda known: known)


class TestWhichOne:
    @pytest.mark.parametrize(
        ("given", "variable", "current", "name"),
        [("a", "b", "c", "a"), (None, "b", "c", "b"), (None, "", "c", "c"), (None, "", "", "")],
    )
    def test_the_nearest_counts(self, given: str | None, variable: str, current: str, name: str) -> None:
        environ = {"HPCLI_CLUSTER": variable} if variable else {}
        assert meant(given, environ, Contexts(current)) == name

    def test_use_takes_contexts_clusters_and_none(self, tmp_path: Path) -> None:
        file = ContextFile(tmp_path / "contexts.json")
        file.change(lambda known: known.with_added(PROD))
        for name in ("prod", "demo", ""):
            use(file, name, ["demo"])
            assert file.read().current == name
        with pytest.raises(NotFound, match="context nope"):
            use(file, "nope", ["demo"])

    def test_removing_the_current_one(self, tmp_path: Path) -> None:
        file = ContextFile(tmp_path / "contexts.json")
        file.change(lambda known: known.with_added(PROD).with_added(LAB).using("prod"))
        assert (remove(file, "lab", []), remove(file, "prod", [])) == (False, True)
        assert file.read() == Contexts()
        with pytest.raises(NotFound):
            remove(file, "prod", [])
        with pytest.raises(UsageFault, match="cluster that was brought up here"):
            remove(file, "demo", ["demo"])

    @pytest.mark.parametrize(
        ("context", "words"),
        [
            (Context("Prod", "h"), "no valid name"),
            (Context("demo", "h"), "a context by itself"),
            (Context("x"), "neither --ssh nor --slurm-conf"),
            (Context("x", slurm_conf="/c", identity="/k"), "without --ssh"),
            (PROD, "found one already"),
        ],
    )
    def test_what_cannot_be_added(self, context: Context, words: str) -> None:
        with pytest.raises(UsageFault, match=words):
            check_new(context, Contexts().with_added(PROD), ["demo"])

    def test_a_cluster_comes_before_a_context_of_its_name(self) -> None:
        cluster = Built("prod", "docker", "22.05", "/f", "ctl:/etc/slurm/slurm.conf", (), (), ())
        found = rows(Contexts().with_added(PROD).with_added(LAB), [cluster], {"prod": "admin@10.0.0.2"}, "prod")
        assert [(row.name, row.kind, row.where, row.current) for row in found] == [
            ("lab", "local", "this machine", False),
            ("prod", "cluster (docker)", "admin@10.0.0.2", True),
        ]


class LoginNode:
    """This machine as a login node whose PATH holds only what the test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def program(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o755)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        shell = ["/bin/sh"] if argv[0] == "sh" else [argv[0]]
        path = {"PATH": str(self.folder), **(env or {})}
        return await LocalTransport().run([*shell, *argv[1:]], stdin=stdin, env=path, cwd=cwd, timeout=timeout)


@pytest.fixture
def login(tmp_path: Path) -> LoginNode:
    folder = tmp_path / "bin"
    folder.mkdir()
    found = LoginNode(folder)
    found.program("id", "echo ada")
    return found


class TestLook:
    async def test_what_is_there(self, login: LoginNode) -> None:
        for name in ("squeue", "sbatch", "scancel"):
            login.program(name, "")
        login.program("scontrol", "echo slurm-wlm 22.05.8")
        found = await look(PROD_PLAIN, login)
        assert (found.user, found.slurm, found.hpcli) == ("ada", "slurm-wlm 22.05.8", "")
        login.program("hpcli", "echo hpcli 0.1.0")
        assert (await look(PROD_PLAIN, login)).hpcli == "hpcli 0.1.0"
        with pytest.raises(NotFound, match=r"/opt/slurm\.conf: found no such file"):
            await look(PROD, login)

    async def test_what_is_missing_is_named(self, login: LoginNode) -> None:
        login.program("squeue", "")
        with pytest.raises(NotFound, match="found no scontrol, sbatch, scancel on PATH"):
            await look(PROD_PLAIN, login)


class TestController:
    async def test_answers_errors_and_none(self, login: LoginNode) -> None:
        asked = ControllerThroughLogin(login, "prod", "ada@login")
        with pytest.raises(NotFound, match="hpcli on ada@login"):
            await asked.ask("status")
        login.program("hpcli", 'read -r line; echo "{\\"ok\\": true, \\"result\\": $line}"')
        assert await asked.ask("pause", reason="x") == {"reason": "x"}
        login.program("hpcli", 'echo \'{"ok": false, "code": "unsafe", "subject": "s", "message": "m"}\'')
        with pytest.raises(Unsafe):
            await asked.ask("reset")
        login.program("hpcli", "echo gone wrong >&2; exit 1")
        with pytest.raises(Unreachable, match="gone wrong"):
            await asked.ask("status")
