"""Where a cluster keeps its files: names that are no paths, sockets that fit, folders of our own."""

import os
from pathlib import Path

import pytest

from hpcli.errors import HpcliError, NotFound, UsageFault
from hpcli.providers.local.folders import check_room, make_folders, needed_mib, refuse_strangers, require_private
from hpcli.providers.local.layout import MAX_SOCKET, Layout

BAD_NAMES = ["", ".", "..", "../x", "/etc", "a/b", "A", "a b", "-x", "7x", "x" * 32, "a\n", "a\0b", "$(id)", "é", "~"]


def layout(tmp_path: Path, runtime: str = "run") -> Layout:
    return Layout("it", tmp_path / "home", tmp_path / runtime / "tag")


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(UsageFault, match="expected a-z, 0-9 and -"):
        Layout.of(name)


@pytest.mark.parametrize("name", ["a", "demo", "my-cluster-2", "x" * 31])
def test_what_can(name: str) -> None:
    found = Layout.of(name)
    assert found.home.name == name
    assert found.home.is_absolute() and found.runtime.is_absolute()


def test_clusters_of_one_name_in_other_folders_do_not_share_sockets() -> None:
    assert Layout.of("a").runtime != Layout.of("b").runtime
    assert Layout.of("a").runtime == Layout.of("a").runtime


def test_a_cluster_that_does_not_exist() -> None:
    with pytest.raises(NotFound, match="no local cluster of that name"):
        Layout.existing("surely-not-there")


def test_no_socket_is_longer_than_the_kernel_allows(tmp_path: Path) -> None:
    def with_length(count: int) -> Layout:
        return Layout("it", tmp_path, Path("/" + "r" * (count - 1)))

    # runtime / s / c1 / c1_4294967294.4294967294
    longest = MAX_SOCKET - len("/s/c1/c1_4294967294.4294967294")
    with_length(longest).check_lengths(("c1",))
    with pytest.raises(HpcliError, match=f"reach {MAX_SOCKET + 1} bytes, at most {MAX_SOCKET} work"):
        with_length(longest + 1).check_lengths(("c1",))
    with pytest.raises(HpcliError, match="at most"):
        with_length(longest).check_lengths(("c1", "c10"))


def test_folders_are_made_for_us_alone(tmp_path: Path) -> None:
    found = layout(tmp_path)
    make_folders(found, nodes=2, accounting=False)
    make_folders(found, nodes=2, accounting=False)
    modes = {oct(path.stat().st_mode & 0o777) for path in (found.home, found.runtime, found.etc, found.spool)}
    assert modes == {"0o700"}


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    found = layout(tmp_path)
    found.home.mkdir(mode=0o777)
    found.home.chmod(0o777)
    make_folders(found, nodes=2, accounting=False)
    assert found.home.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o710, 0o701, 0o1777])
def test_a_runtime_folder_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    found = layout(tmp_path)
    found.runtime.parent.mkdir()
    found.runtime.parent.chmod(mode)
    for check in (lambda: make_folders(found, 2, accounting=False), lambda: refuse_strangers(found)):
        with pytest.raises(HpcliError, match=f"with mode {mode & 0o777:04o}, expected ours with 0700"):
            check()
    assert not found.runtime.exists()


@pytest.mark.parametrize("points_to", ["there", "nowhere"])
def test_a_runtime_folder_that_is_a_link_is_refused(tmp_path: Path, points_to: str) -> None:
    (tmp_path / "there").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / points_to)
    with pytest.raises(HpcliError, match="expected ours"):
        refuse_strangers(layout(tmp_path))


@pytest.mark.skipif(os.getuid() != 0, reason="skipped: only root can give a folder away")
def test_a_runtime_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath("run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", 65_534, 65_534)
    with pytest.raises(HpcliError, match="found it owned by uid 65534"):
        require_private(tmp_path / "run")


def test_room_on_the_disk(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(HpcliError, match="MiB free, expected at least 1099511627776 MiB") as caught:
        check_room(tmp_path, 1 << 40)
    assert "XDG_STATE_HOME" in caught.value.hint
    assert needed_mib(256, accounting=True) > needed_mib(256, accounting=False) > needed_mib(8, accounting=False)
