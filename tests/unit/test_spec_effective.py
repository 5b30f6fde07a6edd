"""A spec written out whole reads back as the same spec."""

from pathlib import Path

import pytest

from hpcli.spec.effective import effective_text
from hpcli.spec.load import load_spec, parse_spec
from hpcli.spec.start import PROVIDERS, starting_text

CASES = Path(__file__).parent.parent / "cases" / "spec"
TEXTS = {
    **{path.stem: path.read_text() for path in CASES.glob("*.yaml") if not path.with_suffix(".txt").exists()},
    **{f"start-{provider}": starting_text(provider) for provider in PROVIDERS},
    "awkward": "name: a\ncompute: [{name: n, count: 1}]\npartitions: [{name: 'null', max_time: 60}]\n"
    "slurm_conf: {A: 'yes', B: '1.0', C: 0.000001, E: true, F: 'ä: {', G: 1.5, H: '0x1f', I: '~'}\n"
    "recovery: {budget: {share: 0.0001%}}\nhealth: {kernel_log: {'79': {remedy: reboot}}}\n",
}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_it_reads_back(name):
    spec = parse_spec(TEXTS[name], "cluster.yaml")
    again = parse_spec(effective_text(spec), "effective")
    assert again.model_dump(exclude={"compute_defaults"}) == spec.model_dump(exclude={"compute_defaults"})
    assert again.nodes == spec.nodes


def test_defaults_and_relative_paths_are_in_it(tmp_path):
    (tmp_path / "defaults.yaml").write_text("compute_defaults: {cpus: 8}\nrecovery: {evict_grace: 7s}\n")
    (tmp_path / "a.sh").write_text("#!/bin/sh\n")
    path = tmp_path / "cluster.yaml"
    path.write_text("name: a\ncompute: [{name: n, count: 1}, {name: m, count: 1, cpus: 1}]\nprolog: [a.sh]\n")
    text = effective_text(load_spec(path, defaults=(tmp_path / "defaults.yaml",)))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "cluster.yaml").write_text(text)
    spec = load_spec(elsewhere / "cluster.yaml")
    assert [node.cpus for node in spec.nodes] == [8, 1]
    assert (spec.recovery.evict_grace, spec.prolog) == (7.0, (str(tmp_path / "a.sh"),))
