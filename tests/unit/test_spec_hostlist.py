import time

import pytest

from hpcli.spec.hostlist import expand, fold


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("c[1-3]", ("c1", "c2", "c3")),
        ("c[08-10]", ("c08", "c09", "c10")),
        ("c[1,3],gpu7", ("c1", "c3", "gpu7")),
        ("r[1-2]-n[1-2]", ("r1-n1", "r1-n2", "r2-n1", "r2-n2")),
        ("c10,c9", ("c9", "c10")),
        ("c[1-2],c2", ("c1", "c2")),
    ],
)
def test_expands(text, names):
    assert expand(text) == names


BROKEN = ("", ",", "c[1-3", "c]1[", "c[3-1]", "c[]", "c[a-b]", "1c", "c-", "c[1-9/2]", "c" * 64)
UNSAFE = ("c 1", "c1 c2", "c1\nc2", "c1\n", "c1;x", "c=1", "c#1", "é1", "@all", "*", "c[1-3]!c2", "c[1-8]&c[1-2]")
RESERVED = ("DEFAULT", "all", "LocalHost")


@pytest.mark.parametrize("text", BROKEN + UNSAFE + RESERVED)
def test_refuses(text):
    with pytest.raises(ValueError, match=r"\w"):
        expand(text)


@pytest.mark.parametrize("text", ["c[1-99999999]", "c[0-65536]", "a[1-9999]b[1-9999]", ",".join(["c[1-9999]"] * 7)])
def test_refuses_huge_lists_without_expanding_them(text):
    started = time.perf_counter()
    with pytest.raises(ValueError, match="at most 65536 nodes"):
        expand(text)
    assert time.perf_counter() - started < 0.05


@pytest.mark.parametrize("text", ["c[1-3]", "c[08-10]", "c[1-3,7],gpu[1-2]", "r1-n[1-2],r2-n[1-2]", "c1-ib,c2-ib"])
def test_folds_to_what_it_came_from(text):
    assert set(expand(fold(expand(text)))) == set(expand(text))


def test_folds_the_last_number_only():
    assert fold(expand("r[1-2]-n[1-2]")) == "r1-n[1-2],r2-n[1-2]"
