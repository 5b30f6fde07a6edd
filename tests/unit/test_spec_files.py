"""Files of this machine that a spec names: found beside it, and refused when they are not what they should be."""

import os
import socket
from pathlib import Path

import pytest

from hpcli.spec.load import load_spec, parse_spec
from hpcli.spec.problems import SpecInvalid

BASE = "name: a\nprovider: hosts\ncompute: [{name: n, count: 1}]\n"
DATABASE = BASE + "accounting: {enabled: true, database: {host: db, password_file: db.password}}\n"


def load(folder: Path, more: str, text: str = BASE):
    path = folder / "cluster.yaml"
    path.write_text(text + more)
    return load_spec(path)


def problem(folder: Path, more: str, text: str = BASE) -> str:
    with pytest.raises(SpecInvalid) as invalid:
        load(folder, more, text)
    [only] = invalid.value.problems
    return str(only).replace(f"{folder}/", "")


def script(path: Path, content: bytes = b"#!/bin/sh\n") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_paths_are_absolute_after_loading(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    script(tmp_path / "scripts" / "a.sh")
    script(tmp_path / "home" / "b.sh")
    script(tmp_path / "key")
    (tmp_path / "cluster.yaml").write_text(
        f"{BASE}prolog: [scripts/a.sh, ~/b.sh, {tmp_path}/scripts/a.sh]\nepilog: [scripts/../scripts/a.sh]\n"
        "packages: {folder: scripts}\nhosts: {identity: key, known_hosts: ~/none}\n"
    )
    spec = load_spec(Path("cluster.yaml"))
    assert spec.prolog == (f"{tmp_path}/scripts/a.sh", f"{tmp_path}/home/b.sh", f"{tmp_path}/scripts/a.sh")
    assert spec.epilog == (f"{tmp_path}/scripts/../scripts/a.sh",)
    assert (spec.packages.folder, spec.hosts.identity) == (f"{tmp_path}/scripts", f"{tmp_path}/key")
    assert spec.hosts.known_hosts == f"{tmp_path}/home/none"


def test_without_a_folder_nothing_is_looked_at():
    spec = parse_spec(f"{DATABASE}prolog: [none.sh]\nepilog: [~/none.sh]\n", "cluster.yaml")
    assert (spec.prolog, spec.epilog) == (("none.sh",), ("~/none.sh",))


@pytest.mark.parametrize("section", ["prolog", "epilog"])
def test_a_script_that_is_not_there(tmp_path, section):
    assert problem(tmp_path, f"{section}: [a.sh]\n") == (
        f"{tmp_path}/cluster.yaml:4: {section}[0]: found a.sh: no such file or directory, expected a script"
    ).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"echo hello\n", "found a.sh without #!"),
        (b"", "found a.sh without #!"),
        (b"#!/bin/sh\n# caf\xe9\n", "found a.sh, which is not UTF-8"),
        (b"#!/bin/sh\n\0\n", "found a.sh with a NUL byte"),
        (b"#!/bin/sh\n" + b"#" * (1 << 20), "found a.sh of more than 1048576 bytes"),
    ],
)
def test_what_is_no_script(tmp_path, content, found):
    script(tmp_path / "a.sh", content)
    assert found in problem(tmp_path, "prolog: [a.sh]\n")


def test_a_script_of_a_mebibyte(tmp_path):
    script(tmp_path / "a.sh", b"#!/bin/sh\n" + b"#" * ((1 << 20) - 10))
    assert load(tmp_path, "prolog: [a.sh]\n").prolog


def test_a_folder_and_a_pipe_are_no_scripts(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert "found folder, which is no file" in problem(tmp_path, "prolog: [folder]\n")
    assert "found pipe, which is no file" in problem(tmp_path, "prolog: [pipe]\n")


def test_a_script_with_a_name_that_no_machine_should_meet(tmp_path):
    script(tmp_path / "a b;c")
    assert "found the name 'a b;c', expected a script named with" in problem(tmp_path, 'prolog: ["a b;c"]\n')


@pytest.mark.skipif(os.geteuid() == 0, reason="skipped: root reads everything")
def test_a_script_that_may_not_be_read(tmp_path):
    script(tmp_path / "a.sh").chmod(0)
    assert "found a.sh: permission denied" in problem(tmp_path, "prolog: [a.sh]\n")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_a_password_that_others_may_read(tmp_path, mode):
    script(tmp_path / "db.password", b"secret\n").chmod(mode)
    assert problem(tmp_path, "", DATABASE) == (
        f"cluster.yaml:4: accounting.database.password_file: found db.password with mode {mode:04o}, "
        "expected mode 0600, so that nobody else reads it: chmod 600 db.password"
    )


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_password_of_ones_own(tmp_path, mode):
    script(tmp_path / "db.password", b"secret\n").chmod(mode)
    database = load(tmp_path, "", DATABASE).accounting.database
    assert database is not None
    assert database.password_file == str(tmp_path / "db.password")


def test_a_password_file_without_a_password_or_with_more_than_one_line_shows_nothing_of_it(tmp_path):
    secret = script(tmp_path / "db.password", b"")
    secret.chmod(0o600)
    assert "found db.password with 0 lines, expected one line, the password" in problem(tmp_path, "", DATABASE)
    secret.write_bytes(b"hunter2\nhunter3\n")
    found = problem(tmp_path, "", DATABASE)
    assert "found db.password with 2 lines" in found
    assert "hunter" not in found


def test_a_password_file_that_is_not_there(tmp_path):
    assert "found db.password: no such file or directory, expected a file with the password" in problem(
        tmp_path, "", DATABASE
    )


def test_an_identity_that_is_not_there(tmp_path):
    assert "hosts.identity: found id: no such file or directory, expected a private SSH key" in problem(
        tmp_path, "hosts: {identity: id}\n"
    )


def test_an_identity_that_is_a_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("id")
        assert "found id, which is no file" in problem(tmp_path, "hosts: {identity: id}\n")


def test_a_folder_of_packages(tmp_path):
    assert "packages.folder: found no gone, expected a folder with debs/ and wheels/" in problem(
        tmp_path, "packages: {folder: gone}\n"
    )
    script(tmp_path / "file")
    assert "found file, which is no folder" in problem(tmp_path, "packages: {folder: file}\n")
