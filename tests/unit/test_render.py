"""Rendered files are compared with tests/golden/NAME/SERIES/; `example.json` names the kind of site and the series.

After a wanted change: HPCLI_UPDATE_GOLDEN=1 pytest tests/unit/test_render.py, then read the diff.
"""

import dataclasses
import json
import os
import time
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_site import EXAMPLES, example_site

from hpcli.errors import HpcliError
from hpcli.render.engine import TEMPLATES, render
from hpcli.render.site import Endpoint, NodeSite
from hpcli.render.slurm import render_slurm
from hpcli.spec.load import load_spec, parse_spec
from hpcli.spec.problems import SpecInvalid

ROOT = Path(__file__).parents[2]
SMALL = parse_spec("name: a\ncompute: [{name: n, count: 2, gpus: {type: h100, count: 1}}]", "cluster.yaml")


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_golden(example):
    found = example.render()
    if os.environ.get("HPCLI_UPDATE_GOLDEN"):
        example.folder.mkdir(exist_ok=True)
        for name, text in found.items():
            (example.folder / name).write_text(text)
    assert found == {path.name: path.read_text() for path in example.folder.iterdir()}


def test_every_template_is_rendered_by_an_example():
    names = {name for example in EXAMPLES for name in example.render()}
    assert names == {path.stem for path in (TEMPLATES / "slurm").glob("*.j2")}


@pytest.mark.parametrize(
    "example", sorted((ROOT / "templates" / "clusters").glob("*.yaml")), ids=lambda path: path.name
)
def test_starting_files_load(example):
    assert load_spec(example).node_names


def test_an_undefined_name_is_an_error(tmp_path):
    (tmp_path / "x.j2").write_text("{{ nothing }}")
    with pytest.raises(jinja2.UndefinedError, match="nothing"):
        render("x.j2", {}, tmp_path)


@pytest.mark.parametrize(
    ("version", "switch", "cgroup"),
    [
        ((22, 5), True, "CgroupPlugin=cgroup/v1"),
        ((23, 2), True, "CgroupPlugin=cgroup/v1"),
        ((23, 11), True, "CgroupPlugin=disabled"),
        ((24, 11), True, "CgroupPlugin=disabled"),
        ((26, 5), False, "CgroupPlugin=disabled"),
    ],
)
def test_differences_between_versions(version, switch, cgroup):
    files = render_slurm(SMALL, example_site(SMALL, version))
    assert ("SwitchType=switch/none" in files["slurm.conf"].splitlines()) is switch
    assert cgroup in files["cgroup.conf"].splitlines()


def test_too_old_a_slurm_is_refused():
    with pytest.raises(HpcliError, match=r"found version 21\.8, expected 22\.5 or later"):
        render_slurm(SMALL, example_site(SMALL, (21, 8)))


def test_a_node_without_an_address_is_named():
    site = dataclasses.replace(example_site(SMALL), nodes={"c1": NodeSite("host", "127.0.0.1", 1, "/dev")})
    with pytest.raises(HpcliError, match="no address for c2"):
        render_slurm(SMALL, site)


def test_accounting_needs_a_provider_that_has_it():
    spec = parse_spec("name: a\ncompute: [{name: n, count: 1}]\naccounting: {enabled: true}", "cluster.yaml")
    with pytest.raises(HpcliError, match="expected a provider that has it"):
        render_slurm(spec, dataclasses.replace(example_site(spec), accounting=None))


def test_without_a_prolog_there_is_no_prolog_line():
    site = dataclasses.replace(example_site(SMALL), prolog="")
    assert "Prolog" not in render_slurm(SMALL, site)["slurm.conf"]


UNSAFE = (
    "",
    "relative",
    "/a b",
    "/a\nProlog=/x",
    "/a#b",
    "/a,b",
    '/a"b',
    "/a[1]",
    "/a\\b",
    "/a=b",
    "/a\x1b",
    "/a%hb",
    "/a\u2028b",
)


@pytest.mark.parametrize("value", UNSAFE)
@pytest.mark.parametrize(
    "field", ["munge_socket", "state", "slurmctld_log", "slurmctld_pid", "spool", "slurmd_log", "slurmd_pid"]
)
def test_a_path_that_slurm_cannot_read_is_refused(field, value):
    per_node = field in ("spool", "slurmd_log", "slurmd_pid")
    site = dataclasses.replace(example_site(SMALL), **{field: f"{value}/%n" if per_node and value else value})
    with pytest.raises(HpcliError, match="found"):
        render_slurm(SMALL, site)


def test_a_path_shared_by_all_nodes_is_refused():
    with pytest.raises(HpcliError, match="a path with %n in it"):
        render_slurm(SMALL, dataclasses.replace(example_site(SMALL), spool="/run/x"))


@pytest.mark.parametrize(
    "change",
    [
        {"user": "me\nroot"},
        {"user": ""},
        {"controller": Endpoint("h Port=1", "127.0.0.1", 1)},
        {"controller": Endpoint("h", "127.0.0.1)", 1)},
        {"controller": Endpoint("h", "127.0.0.1", 0)},
        {"nodes": dict.fromkeys(SMALL.node_names, NodeSite("h", "127.0.0.1", 65536, "/dev"))},
        {"nodes": dict.fromkeys(SMALL.node_names, NodeSite("h", "127.0.0.1 Port=1", 5, "/dev"))},
        {"nodes": dict.fromkeys(SMALL.node_names, NodeSite("h", "127.0.0.1", 5, "/dev /x"))},
        {"prolog": "relative"},
    ],
)
def test_other_unsafe_values_are_refused(change):
    with pytest.raises(HpcliError, match="found"):
        render_slurm(SMALL, dataclasses.replace(example_site(SMALL), **change))


WORDS = st.from_regex(r"[A-Za-z][\w.\- =#\n,:\[\]\"]{0,6}") | st.text(max_size=6)


@given(WORDS, WORDS, WORDS, WORDS)
def test_no_name_of_a_spec_can_add_a_line_or_a_word(feature, gpu, partition, prefix):
    group = {"name": "n", "count": 2, "prefix": prefix, "features": [feature], "gpus": {"type": gpu, "count": 2}}
    text = json.dumps({"name": "a", "compute": [group], "partitions": [{"name": partition}]})
    try:
        spec = parse_spec(text, "cluster.yaml")
    except SpecInvalid:
        return
    files = render_slurm(spec, example_site(spec))
    lines = files["slurm.conf"].splitlines()
    assert [len(line.split()) for line in lines if line.startswith("NodeName=")] == [9, 9]
    assert [len(line.split()) for line in lines if line.startswith("PartitionName=")] == [5]
    assert len(lines) == len(render_slurm(SMALL, example_site(SMALL))["slurm.conf"].splitlines())
    assert not any("#" in line for line in lines[1:] if "=" in line)


def test_ten_thousand_nodes_render_in_time():
    started = time.perf_counter()
    text = "name: a\ncompute: [{name: n, count: 10000, gpus: {type: h100, count: 8}}]"
    spec = parse_spec(text, "cluster.yaml", max_nodes=10000)
    nodes = {name: NodeSite("h", "127.0.0.1", 21000, f"/n/{name}") for name in spec.node_names}
    files = render_slurm(spec, dataclasses.replace(example_site(SMALL), nodes=nodes))
    assert files["gres.conf"].count("NodeName=") == 10000
    assert time.perf_counter() - started < 2  # measured 0.3 s; the rest is room for a busy machine
