"""Which Slurm upgrade is allowed, and which way leads from one series to another."""

import shutil
import subprocess
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcli.domain.slurm_release import (
    SERIES,
    Offer,
    Package,
    choose,
    compare,
    parse_offer,
    path_words,
    reads,
    series,
    supported_path,
)
from hpcli.errors import HpcliError, NotFound, Unsafe

OLD, NEW, NEWER = "22.05.8-4+deb12u2", "22.05.8-4+deb12u3", "22.05.11-1"


def offer(installed: str = OLD, *versions: str, names: tuple[str, ...] = ("slurmd", "slurm-client")) -> Offer:
    return Offer(tuple(Package(name, installed, versions[0] if versions else installed, versions) for name in names))


VERSIONS = (
    ("22.05.8-4", "22.05.9-1"),
    ("22.05.8-4+deb12u2", "22.05.8-4+deb12u3"),
    ("22.05.9-1", "22.05.10-1"),
    ("22.05.9~rc1-1", "22.05.9-1"),
    ("22.05.9", "22.05.9-1"),
    ("24.11.5-4", "24.11.5-4+b1"),
    ("24.11.5-4~bpo12+1", "24.11.5-4"),
    ("24.11.5", "1:22.05.1"),
    ("22.05.8-4", "22.05.8-4a"),
    ("22.05.8-4a", "22.05.8-4+"),
)


class TestOrder:
    @pytest.mark.parametrize(("older", "newer"), VERSIONS)
    def test_as_debian_has_it(self, older: str, newer: str) -> None:
        assert (compare(older, newer), compare(newer, older), compare(older, older)) == (-1, 1, 0)

    @pytest.mark.skipif(not shutil.which("dpkg"), reason="skipped: no dpkg here")
    @given(st.lists(st.text("09a~+.-", max_size=6), min_size=2, max_size=2))
    def test_dpkg_agrees(self, texts: list[str]) -> None:
        one, other = (f"1{text.strip('-')}" for text in texts)
        for relation, holds in (("lt", compare(one, other) < 0), ("eq", compare(one, other) == 0)):
            done = subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=False)
            assert (done.returncode == 0) == holds, (one, relation, other)

    def test_series(self) -> None:
        assert series(OLD) == "22.05"


class TestWindow:
    @pytest.mark.parametrize(
        ("newer", "older"),
        [
            # The table of Slurm's upgrade guide.
            ("23.02", "22.05 21.08"),
            ("23.11", "23.02 22.05"),
            ("24.05", "23.11 23.02"),
            ("24.11", "24.05 23.11 23.02"),
            ("25.05", "24.11 24.05 23.11"),
            ("25.11", "25.05 24.11 24.05"),
        ],
    )
    def test_what_a_release_reads(self, newer: str, older: str) -> None:
        assert {one for one in SERIES if reads(newer, one)} == {newer, *older.split()}

    @pytest.mark.parametrize(
        ("start", "end", "way"),
        [
            ("22.05", "23.11", "22.05 23.11"),
            ("24.11", "26.05", "24.11 26.05"),
            ("24.11", "24.11", "24.11"),
            ("24.11", "22.05", ""),
            ("22.05", "99.05", ""),
            ("9.05", "22.05", ""),
        ],
    )
    def test_ways(self, start: str, end: str, way: str) -> None:
        assert " ".join(supported_path(start, end)) == way

    def test_every_step_of_every_way_is_supported(self) -> None:
        for start in SERIES:
            for end in SERIES[SERIES.index(start) :]:
                way = supported_path(start, end)
                assert (way[0], way[-1]) == (start, end)
                assert all(reads(newer, older) for older, newer in pairwise(way))

    def test_from_debian_12_to_13_something_lies_between_that_debian_lacks(self) -> None:
        way = supported_path("22.05", "24.11")
        assert len(way) == 3
        assert way[1] in ("23.02", "23.11")
        assert "build new machines with Slurm 24.11" in path_words("22.05", "24.11")
        assert f"Debian has no {way[1]}" in path_words("22.05", "24.11")

    def test_debians_own_series_are_preferred(self) -> None:
        assert "24.11" in supported_path("22.05", "26.05")


class TestChoice:
    def test_the_newest_that_all_can_have(self) -> None:
        assert choose({"ctl": offer(OLD, NEW, OLD), "c1": offer(OLD, NEW)}) == NEW

    def test_nothing_newer(self) -> None:
        assert choose({"ctl": offer(OLD, OLD), "c1": offer(OLD, OLD)}) == OLD

    def test_a_version_by_its_number_or_in_full(self) -> None:
        offers = {"ctl": offer(OLD, NEWER, NEW, OLD)}
        assert choose(offers, "22.05.11") == NEWER
        assert choose(offers, NEW) == NEW
        assert choose(offers, "22.05.8") == NEW

    def test_a_version_that_is_a_part_of_another_is_not_meant(self) -> None:
        with pytest.raises(NotFound, match=r"22\.05\.1: found .*22\.05\.11-1 to be had on ctl"):
            choose({"ctl": offer(OLD, NEWER)}, "22.05.1")

    def test_a_roll_that_was_cut_short_goes_on(self) -> None:
        assert choose({"ctl": offer(NEW, NEW), "c1": offer(OLD, NEW)}) == NEW

    @pytest.mark.parametrize("wanted", ["", "24.11.5"])
    def test_another_series_is_refused_with_the_way(self, wanted: str) -> None:
        with pytest.raises(Unsafe, match=r"found 22\.05\.8-4\+deb12u2 installed") as caught:
            choose({"ctl": offer(OLD, "24.11.5-4", OLD)}, wanted)
        assert "upgrades.html" in caught.value.hint and "24.11" in caught.value.hint

    def test_a_series_that_is_not_to_be_had_is_refused_all_the_same(self) -> None:
        with pytest.raises(Unsafe, match="expected a patch release of 22"):
            choose({"ctl": offer(OLD, OLD)}, "23.11")

    def test_an_older_one_is_refused(self) -> None:
        with pytest.raises(Unsafe, match="expected an older one"):
            choose({"ctl": offer(NEW, NEW, OLD)}, OLD)

    def test_packages_of_one_machine_that_are_offered_different_ones_are_refused(self) -> None:
        mixed = Offer((Package("slurmd", OLD, NEW, (NEW, OLD)), Package("libslurm38", OLD, OLD, (OLD,))))
        with pytest.raises(HpcliError, match="expected one version for all of Slurm"):
            choose({"c1": mixed})

    def test_a_pinned_version_is_kept_to(self) -> None:
        pinned = Offer((Package("slurmd", OLD, OLD, (NEWER, NEW, OLD)),))
        assert choose({"c1": pinned}) == OLD
        assert choose({"c1": pinned}, NEW) == NEW

    def test_machines_that_are_offered_different_ones_are_named(self) -> None:
        with pytest.raises(HpcliError, match=r"deb12u2 on c\[1-2\]; .*deb12u3 on ctl"):
            choose({"ctl": offer(OLD, NEW), "c1": offer(OLD, OLD), "c2": offer(OLD, OLD)})


class TestOffer:
    def test_as_printed(self) -> None:
        told = parse_offer(f"underway\nslurmd\t{OLD}\t{NEW}\t{NEW},{OLD}\nslurm-client\t{NEW}\t{NEW}\t{NEW}\n")
        assert told.underway and told.packages[0] == Package("slurmd", OLD, NEW, (NEW, OLD))
        assert (told.installed, told.is_at(NEW)) == (OLD, False)

    def test_an_upgrade_under_way_is_not_at_its_version(self) -> None:
        assert offer(NEW).is_at(NEW)
        assert not Offer(offer(NEW).packages, underway=True).is_at(NEW)

    @pytest.mark.parametrize("text", ["", "underway\n", "no such file\n"])
    def test_anything_else_is_no_offer(self, text: str) -> None:
        with pytest.raises(ValueError, match="expected lines"):
            parse_offer(text)
