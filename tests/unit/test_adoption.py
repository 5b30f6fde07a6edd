"""Clusters of somebody else's become specs: what slurmctld of three releases said, and what any might say."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcli.domain.adoption import Found, find
from hpcli.domain.adoption_lines import lines_for, still_there
from hpcli.domain.adoption_nodes import FoundNode, gpus_of, is_host, is_name, read_nodes
from hpcli.domain.adoption_text import KNOWN, Choice, Reach, cluster_name, shapes, spec_text
from hpcli.domain.diagnosis import Configuration, Severity, note, ok, parse_configuration
from hpcli.domain.diagnosis_hooks import in_place_of, judge_hooks
from hpcli.errors import HpcliError, UsageFault
from hpcli.spec.load import parse_spec
from hpcli.spec.site import SERIES

CASES = Path(__file__).parents[1] / "cases"


def load(name: str) -> list[Any]:
    found = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    return [pytest.param(case, id=title) for title, case in found.items()]


def recorded(series: str, name: str, changes: Mapping[str, str] = {}) -> Configuration:
    text = (CASES / "adopt" / series / f"{name}.config.txt").read_text()
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^({re.escape(key)}\s*= ).*$", lambda line, value=value: line[1] + value, text)  # type: ignore[misc]
        assert count == 1, key
    found = parse_configuration(text)
    assert found is not None
    return found


def nodes_text(series: str, name: str) -> str:
    return (CASES / "adopt" / series / f"{name}.nodes.txt").read_text()


def test_series_of_a_spec_are_those_that_it_knows() -> None:
    assert KNOWN == SERIES


@pytest.mark.parametrize("series", SERIES)
def test_a_stock_cluster(series: str) -> None:
    found = find(recorded(series, "stock"), nodes_text(series, "stock"))
    assert (found.cluster, found.series, found.controller, found.address) == ("site", series, "controller", "")
    assert (found.slurm_user, found.slurm_uid, found.state) == ("slurm", 64030, "/var/lib/slurm/slurmctld")
    assert (found.slurmd_pid, found.munge_socket) == ("/run/slurm/slurmd.pid", "/run/munge/munge.socket.2")
    assert (found.prolog, found.prolog_flags, found.gate) == (("/etc/slurm/site-prolog",), (), False)
    assert found.left_out == ()
    spec = parse_spec(spec_text(found, Reach(user="admin"), Choice("site")), "site.yaml")
    assert spec.node_names == ("c1", "c2", "c3", "c4")
    assert {(node.cpus, node.memory, node.gpu_count) for node in spec.nodes} == {(2, 1000, 2)}
    assert (spec.slurm.version, spec.recovery.mode, spec.hosts.user) == (series, "observe", "admin")


@pytest.mark.parametrize("series", SERIES)
def test_an_ugly_cluster(series: str) -> None:
    """Two controllers, hidden partitions, cloud and future nodes, and reasons and comments that look like fields."""
    found = find(recorded(series, "ugly"), nodes_text(series, "ugly"))
    by_name = {node.name: node for node in found.nodes}
    assert sorted(by_name) == ["cpu-1", "cpu-2", "cpu-3", "gpu001", "gpu002", "gpu003", "gpu004", "mixed1", "n_4"]
    assert (by_name["mixed1"].address, by_name["mixed1"].gpus) == ("mixed1", 3)
    assert (by_name["cpu-1"].hostname, by_name["cpu-1"].address) == ("host-1", "host-1")
    assert (by_name["gpu002"].gpu_type, by_name["gpu002"].gpus, by_name["gpu002"].cpus) == ("h100", 8, 16)
    assert (found.controller, found.address) == ("controller", "")
    assert found.prolog == ("/etc/slurm/prolog.d/*",)
    assert found.prolog_flags == ("Alloc", "Contain")
    hidden = [] if series == "22.05" else ["cl[1-2]"]
    assert [one.what for one in found.left_out] == ["backup controller ctl-b", *hidden]
    choice = Choice(cluster_name("", found), chain=found.prolog)
    spec = parse_spec(spec_text(found, Reach(), choice), "site.yaml")
    assert (spec.name, spec.adopted.chain_prolog) == ("big-site", ("/etc/slurm/prolog.d/*",))
    assert {group.name: group.nodes for group in spec.compute} == {
        "batch": "cpu-[1-3],n_4",
        "gpu": "gpu[001-003]",
        "gpu-2": "gpu004",
        "mixed": "mixed1",
    }
    assert dict(spec.hosts.addresses) == {
        "cpu-[1-2]": "host-[1-2]",
        "gpu[001-004]": "10.1.0.[11-14]",
        "n_4": "10.1.0.24",
    }


@pytest.mark.parametrize("case", load("adopt/refused"))
@pytest.mark.parametrize("series", SERIES)
def test_what_cannot_be_adopted(series: str, case: Mapping[str, Any]) -> None:
    text = case.get("text", nodes_text(series, "stock"))
    for old, new in case.get("nodes", {}).items():
        assert old in text
        text = text.replace(old, new)
    changes = {key: str(value) for key, value in case.get("set", {}).items()}
    with pytest.raises(HpcliError) as caught:
        find(recorded(series, "stock", changes), text)
    assert caught.value.subject == case["subject"]
    assert any(words in caught.value.message for words in case["says"].split("|"))
    assert caught.value.hint
    assert "expected" in caught.value.message


@pytest.mark.parametrize(("gres", "expected"), yaml.safe_load((CASES / "adopt" / "gres.yaml").read_text()).items())
def test_gpus(gres: str, expected: list[Any]) -> None:
    assert list(gpus_of(gres)) == expected


@pytest.mark.parametrize(
    ("change", "what", "why"),
    [
        (("NodeName=c2 ", "NodeName=2c "), "2c", "a letter first"),
        (("NodeName=c2 ", "NodeName=localhost "), "localhost", "a letter first"),
        (("NodeAddr=c2 ", "NodeAddr=c_2 "), "c2", "set NodeAddr"),
        (("State=", "State=DYNAMIC_NORM+"), "c[1-4]", "dynamic"),
        (("Gres=gpu:2", "Gres=gpu:a100_1g.5gb:14"), "GPUs of c[1-4]", "MIG"),
        (("Gres=gpu:2", "Gres=gpu:mi250:8"), "GPUs of c[1-4]", "/dev/nvidia*"),
    ],
)
def test_what_is_left_out_is_said(change: tuple[str, str], what: str, why: str) -> None:
    text = nodes_text("24.11", "stock").replace(*change) + nodes_text("24.11", "stock").replace("=c", "=d")
    found = find(recorded("24.11", "stock"), text)
    [one] = found.left_out
    assert one.what == what
    assert why in one.why
    assert f"# Left out: {what}: " in spec_text(found, Reach(), Choice("site"))


def test_a_prolog_that_is_in_force_is_not_the_sites_own() -> None:
    found = find(recorded("24.11", "stock", {"Prolog[0]": "/etc/hpcli/prolog"}), nodes_text("24.11", "stock"))
    assert (found.prolog, found.gate) == ((), True)


def test_a_prolog_without_a_folder_is_said() -> None:
    found = find(recorded("26.05", "stock", {"Prolog[0]": "prolog.sh"}), nodes_text("26.05", "stock"))
    assert (found.prolog, [one.what for one in found.left_out]) == ((), ["Prolog prolog.sh"])


def test_a_series_that_a_spec_cannot_name_is_left_out_of_it() -> None:
    found = find(recorded("24.11", "stock", {"SLURM_VERSION": "25.05.3"}), nodes_text("24.11", "stock"))
    spec = parse_spec(spec_text(found, Reach(), Choice("site")), "site.yaml")
    assert (found.series, spec.slurm.version) == ("25.05", None)


@pytest.mark.parametrize("name", ["Not_Good", "", "1", "-", "a" * 40])
def test_a_name_that_no_cluster_can_have(name: str) -> None:
    found = find(recorded("24.11", "stock", {"ClusterName": "(null)"}), nodes_text("24.11", "stock"))
    with pytest.raises(UsageFault, match="cluster name"):
        cluster_name(name, found)


@pytest.mark.parametrize("case", load("adopt/lines"))
@pytest.mark.parametrize("series", SERIES)
def test_lines(series: str, case: Mapping[str, Any]) -> None:
    found = recorded(series, "stock")
    values = {**found.values, **{key.lower(): value for key, value in case.get("set", {}).items()}}
    conf = Configuration(values)
    lines = {line.key: line for line in lines_for(conf, tuple(case.get("chained", ())), case.get("texts", {}))}
    assert {key: line.state for key, line in lines.items()} == case["expect"]
    assert all(words in lines[key].note for key, words in case.get("says", {}).items())
    assert all(lines[key].text == text for key, text in case.get("text", {}).items())
    assert list(still_there(conf)) == case.get("still", [])


@pytest.mark.parametrize("case", load("doctor/hooks"))
@pytest.mark.parametrize("series", SERIES)
def test_hooks(series: str, case: Mapping[str, Any]) -> None:
    found = recorded(series, "stock")
    conf = Configuration({**found.values, **{key.lower(): value for key, value in case.get("set", {}).items()}})
    judged = list(judge_hooks(conf, case.get("texts", {})))
    assert {one.subject: one.severity for one in judged if one.severity is not Severity.OK} == case["expect"]
    assert all(one.cost and one.fix for one in judged if one.severity is not Severity.OK)
    told = {one.subject: f"{one.found} {one.cost} {one.fix}" for one in judged}
    assert all(words in told[key] for key, words in case.get("says", {}).items())
    assert len(judged) == 3


def test_each_line_is_judged_once() -> None:
    general = [note("Prolog", "none", "some"), ok("munge", "fine"), ok("RebootProgram", "/sbin/reboot")]
    hooks = list(judge_hooks(recorded("24.11", "stock"), {}))
    both = in_place_of(general, hooks)
    assert [one.subject for one in both] == ["munge", "Prolog", "nohold_on_prolog_fail", "RebootProgram"]


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,12}[A-Za-z0-9_]|[a-c][0-9]{1,3}", fullmatch=True).filter(is_name)
ADDRESSES = st.one_of(
    st.builds("10.{}.0.{}".format, st.integers(0, 3), st.integers(0, 30)),
    st.builds("fd00::{:x}".format, st.integers(0, 65535)),
    st.from_regex(r"[a-z]{1,3}[0-9]{0,2}\.ib", fullmatch=True),
)
TYPES = st.sampled_from(["", "h100", "a100", "gpu"])


@st.composite
def clusters(draw: st.DrawFn) -> Found:
    names = draw(st.lists(NAMES, min_size=1, max_size=12, unique=True))
    places = draw(st.lists(ADDRESSES, min_size=len(names) + 1, max_size=len(names) + 1, unique=True))
    controller = draw(
        st.from_regex(r"[A-Z][a-zA-Z0-9-]{0,8}[xyz]", fullmatch=True).filter(lambda name: name not in names)
    )
    nodes = []
    for name, place in zip(names, places, strict=False):
        kind = draw(TYPES)
        nodes.append(
            FoundNode(
                name=name,
                hostname=name,
                address=name if is_host(name) and draw(st.booleans()) else place,
                cpus=draw(st.sampled_from([1, 64])),
                memory=draw(st.sampled_from([1, 1 << 30])),
                gpu_type=kind,
                gpus=draw(st.integers(1, 256)) if kind else 0,
                partitions=tuple(draw(st.lists(st.sampled_from(["all", "gpu", "1st", "a" * 63]), unique=True))),
            )
        )
    return Found(
        cluster=draw(st.text(max_size=20)),
        series=draw(st.sampled_from(["22.05", "23.11", "24.11", "26.05"])),
        release=draw(st.text(max_size=10)),
        controller=controller,
        address=draw(st.sampled_from(["", places[-1]])),
        slurm_user="slurm",
        slurm_uid=draw(st.integers(0, 1 << 31)),
        state="/var/spool/slurmctld",
        slurmd_pid=draw(st.sampled_from(["/run/slurmd.%n.pid", "/run/a b#c: [x].pid"])),
        munge_socket="/run/munge/munge.socket.2",
        slurm_conf="/etc/slurm/slurm.conf",
        nodes=tuple(nodes),
        prolog_flags=("Alloc",),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clusters())
def test_any_cluster_becomes_a_spec_that_says_the_same(found: Found) -> None:
    spec = parse_spec(spec_text(found, Reach(user="root", port=22), Choice("any", chain=("/a b/*",))), "any.yaml")
    assert {
        node.name: (node.cpus, node.memory, node.gpu_type, node.gpu_count, spec.address_of(node.name))
        for node in spec.nodes
    } == {node.name: (node.cpus, node.memory, node.gpu_type, node.gpus, node.address) for node in found.nodes}
    assert spec.address_of(found.controller) == found.address or found.address == ""
    assert (spec.adopted.slurmd_pid, spec.adopted.slurm_uid) == (found.slurmd_pid, found.slurm_uid)
    assert sum(len(shape.nodes) for shape in shapes(found.nodes)) == len(found.nodes)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            *(st.from_regex(r"[!-~]{1,12}", fullmatch=True) for _ in range(4)),
            st.text(alphabet=" =\nNodeNameAddr[]x", max_size=30),
        ),
        max_size=6,
    )
)
def test_whatever_slurm_says_is_taken_or_refused_in_words(rows: list[tuple[str, str, str, str, str]]) -> None:
    text = "".join(
        f"NodeName={name} CoresPerSocket=1 Gres={gres} NodeAddr={addr} NodeHostName={host} State=IDLE Reason={free}\n"
        for name, addr, host, gres, free in rows
    )
    read_nodes(text)
    try:
        found = find(recorded("24.11", "stock"), text)
    except HpcliError as error:
        assert error.hint
        return
    spec = parse_spec(spec_text(found, Reach(), Choice("any")), "any.yaml")
    assert set(spec.node_names) == {node.name for node in found.nodes}
