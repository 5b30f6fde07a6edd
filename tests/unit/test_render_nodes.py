"""Node lines, hostlists and a site's own parameters, by the cases of tests/cases/render."""

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from slurm_trial import PATH, program
from spec_site import example_site, machines_site

from hpcli.errors import HpcliError
from hpcli.render.nodes import gres_lines, node_lines
from hpcli.render.sequence import fold_in_order, fold_sorted
from hpcli.render.site import NodeSite
from hpcli.render.slurm import render_slurm
from hpcli.spec.addresses import in_order
from hpcli.spec.load import parse_spec
from hpcli.spec.model import Spec

CASES = Path(__file__).parents[1] / "cases" / "render"


def cases(name: str) -> list[dict]:
    return yaml.safe_load((CASES / f"{name}.yaml").read_text())


def spec_of(**sections: object) -> Spec:
    # JSON is YAML, too, and leaves nothing to guess.
    return parse_spec(json.dumps({"name": "a", "provider": "hosts", **sections}), "cluster.yaml")


@pytest.mark.parametrize("case", cases("sequence"), ids=lambda case: case["folded"])
def test_a_hostlist_keeps_the_order(case):
    names = [str(name) for name in case["names"]]
    assert fold_in_order(names) == case["folded"]
    assert fold_sorted(names) == case.get("sorted", case["folded"])


@pytest.mark.slurm
@pytest.mark.skipif(shutil.which("scontrol", path=PATH) is None, reason="skipped: no scontrol")
@given(st.lists(st.from_regex(r"[a-c]{1,2}(-n)?[0-9]{0,3}", fullmatch=True), min_size=1, max_size=12))
def test_slurm_reads_it_as_we_mean_it(names):
    conf = Path(os.environ.get("TMPDIR", "/tmp")) / f"hc-{os.getpid()}.conf"
    conf.write_text("ClusterName=a\nSlurmctldHost=localhost\nNodeName=x\n")
    argv = [program("scontrol"), "show", "hostnames", fold_in_order(names)]
    try:
        said = subprocess.run(argv, env={"SLURM_CONF": str(conf)}, capture_output=True, text=True, check=True)
    finally:
        conf.unlink()
    assert said.stdout.split() == names


@pytest.mark.parametrize("case", cases("nodes"), ids=lambda case: case["why"])
def test_node_lines(case):
    spec = spec_of(compute=case["compute"])
    hostnames = in_order(case["hostnames"]) if "hostnames" in case else spec.node_names
    addresses = in_order(case["addresses"]) if "addresses" in case else hostnames
    places = zip(spec.node_names, hostnames, addresses, strict=True)
    nodes = {name: NodeSite(hostname, address, 6818, "/dev") for name, hostname, address in places}
    assert list(node_lines(spec, dataclasses.replace(machines_site(spec), nodes=nodes))) == case["lines"]


def test_like_gpus_share_a_line_across_groups():
    gpus = {"type": "a100", "count": 4}
    groups = [
        {"name": "a", "nodes": "c[1-2]", "gpus": gpus},
        {"name": "b", "nodes": "d1", "gpus": {"type": "t4", "count": 1}},
        {"name": "c", "nodes": "c[3-4]", "gpus": gpus, "cpus": 2},
    ]
    spec = spec_of(compute=groups)
    assert list(gres_lines(spec, machines_site(spec))) == [
        "NodeName=c[1-4] Name=gpu Type=a100 File=/dev/nvidia[0-3]",
        "NodeName=d1 Name=gpu Type=t4 File=/dev/nvidia0",
    ]


@pytest.mark.parametrize("case", cases("slurm_conf"), ids=lambda case: json.dumps(case["slurm_conf"]))
def test_parameters_of_the_site(case):
    spec = spec_of(compute=[{"name": "n", "count": 1}], slurm_conf=case["slurm_conf"])
    text = render_slurm(spec, machines_site(spec))["slurm.conf"]
    missing = [line for line in case.get("lines", ()) if f"\n{line}\n" not in text]
    assert not missing, text
    assert not [word for word in case.get("not", ()) if word in text], text


def test_ours_comes_before_the_sites_own():
    spec = spec_of(
        compute=[{"name": "n", "count": 1}], slurm_conf={"CommunicationParameters": "EnableIPv6,NoInAddrAny"}
    )
    text = render_slurm(spec, example_site(spec))["slurm.conf"]
    assert "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny,EnableIPv6\n" in text


@pytest.mark.parametrize(
    "slurm_conf",
    [{"A": "1\nProlog=/x"}, {"A": "1 # no"}, {"A": '"'}, {"A": "a\\"}, {"A": ""}, {"A B": 1}, {"A=1\nB": 1}, {"": 1}],
)
def test_what_slurm_could_not_read_is_refused(slurm_conf):
    spec = spec_of(compute=[{"name": "n", "count": 1}])
    unchecked = spec.model_copy(update={"slurm_conf": slurm_conf})
    with pytest.raises(HpcliError, match="slurm_conf"):
        render_slurm(unchecked, machines_site(spec))
