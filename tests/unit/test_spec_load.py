import json
import time
from functools import reduce
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.errors import Exit, NotFound, UsageFault
from hpcli.spec.document import Document, read_document
from hpcli.spec.load import MAX_BYTES, load_spec, parse_spec
from hpcli.spec.model import Spec
from hpcli.spec.nodes import SPARE_WEIGHT, NodeSpec, PartitionSpec
from hpcli.spec.problems import Problem, SpecInvalid

MINIMAL = "name: a\ncompute: [{name: n, count: 1}]\n"


def spec_of(text: str, max_nodes: int = 256) -> Spec:
    return parse_spec(text, "cluster.yaml", max_nodes=max_nodes)


def only_problem(path) -> Problem:
    with pytest.raises(SpecInvalid) as invalid:
        load_spec(path)
    (problem,) = invalid.value.problems
    return problem


def test_minimal_has_safe_defaults():
    spec = spec_of(MINIMAL)
    assert spec.nodes == (NodeSpec("c1", "n", cpus=1, memory=1024),)
    assert spec.partition_specs == (PartitionSpec("main", ("c1",), True, "UNLIMITED"),)
    assert spec.policy() == Policy()
    assert (spec.provider, spec.local.agents, spec.local.first_port) == ("local", "shared", None)
    assert (spec.accounting.enabled, spec.health.interval) == (False, 10.0)


def test_counted_names_go_on_over_groups_by_prefix():
    spec = spec_of(
        "name: a\ncompute:\n- {name: x, count: 2}\n- {name: y, count: 2, prefix: gpu}\n- {name: z, count: 1}\n"
        "- {name: w, count: 1, prefix: gpu}\n"
    )
    assert spec.node_names == ("c1", "c2", "gpu1", "gpu2", "c3", "gpu3")


def test_the_last_nodes_of_a_group_are_its_spares():
    spec = spec_of("name: a\ncompute: [{name: x, count: 3, spares: 2, weight: 7}, {name: y, count: 1}]")
    assert [(node.spare, node.weight) for node in spec.nodes] == [
        (False, 7),
        (True, SPARE_WEIGHT + 7),
        (True, SPARE_WEIGHT + 7),
        (False, 1),
    ]


def test_node_by_name():
    spec = spec_of(
        "name: a\ncompute: [{name: x, count: 2, cpus: 4, memory: 4G, gpus: {type: h100, count: 8}, features: [f, g]}]"
    )
    assert spec.node("c2") == NodeSpec("c2", "x", 4, 4096, "h100", 8, ("f", "g"))
    with pytest.raises(NotFound, match="node c9"):
        spec.node("c9")


@pytest.mark.parametrize(
    ("written", "mib"), [("4G", 4096), ("4096M", 4096), ("512", 512), ("1t", 1048576), ("'2G'", 2048)]
)
def test_memory_is_mib(written, mib):
    assert spec_of(f"name: a\ncompute: [{{name: n, count: 1, memory: {written}}}]").nodes[0].memory == mib


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("10m", 600), ("2s", 2), ("1h", 3600), ("90", 90), ("1.5m", 90), ("1d", 86400), ("1500ms", 1.5)],
)
def test_durations_are_seconds(written, seconds):
    assert spec_of(f"{MINIMAL}recovery: {{reboot_timeout: {written}}}").policy().reboot_timeout == seconds


@pytest.mark.parametrize(("written", "share"), [("10%", 0.1), ("0.1", 0.1), ("0", 0), ("1", 1), ("2.5%", 0.025)])
def test_shares(written, share):
    assert spec_of(f"{MINIMAL}recovery: {{budget: {{share: {written}}}}}").policy().budget.share == share


def test_policy_takes_every_key():
    keys = (
        "evict_grace start_interval reboot_interval replace_interval reboot_timeout replace_timeout acceptance_timeout"
    )
    times = {key: float(i + 1) for i, key in enumerate([*keys.split(), "report_timeout"])}
    lines = "".join(f"  {key}: {value}\n" for key, value in times.items())
    more = "  enabled: false\n  min_schedulable: 50%\n  budget: {nodes: 3, share: 30%}\n"
    text = f"{MINIMAL}recovery:\n{lines}{more}  breaker: {{nodes: 4, share: 40%, window: 5m}}\n"
    assert spec_of(text).policy() == Policy(
        enabled=False, min_schedulable=0.5, budget=Budget(3, 0.3), breaker=Breaker(4, 0.4, 300.0), **times
    )


def test_slurm_times_are_not_read_as_sexagesimal_numbers():
    spec = spec_of(f"{MINIMAL}partitions: [{{name: day, max_time: 12:00:00}}, {{name: hour, max_time: 60}}]")
    assert [partition.max_time for partition in spec.partition_specs] == ["12:00:00", "60"]


def test_the_first_partition_is_the_default_when_none_says_so():
    both = "partitions: [{name: x}, {name: y%s}]"
    assert [p.default for p in spec_of(MINIMAL + both % "").partition_specs] == [True, False]
    assert [p.default for p in spec_of(MINIMAL + both % ", default: true").partition_specs] == [False, True]


def test_anchors_and_merges():
    spec = spec_of("name: a\ncompute: [&x {name: n, count: 2, cpus: 4}, {<<: *x, name: m, count: 1}]")
    assert [(node.group, node.cpus) for node in spec.nodes] == [("n", 4), ("n", 4), ("m", 4)]


def test_the_provider_sets_the_limit():
    text = "name: a\ncompute: [{name: n, count: 300}]"
    assert len(spec_of(text, max_nodes=300).node_names) == 300
    with pytest.raises(SpecInvalid, match="found 300 nodes, expected at most 299"):
        spec_of(text, max_nodes=299)


def test_any_check_name_will_do_when_none_are_known():
    assert spec_of(f"{MINIMAL}health: {{checks: {{made.up: {{x: 1}}}}}}").health.checks == {"made.up": {"x": 1}}


def test_a_problem_is_one_line_and_all_are_in_the_error():
    with pytest.raises(SpecInvalid) as invalid:
        spec_of("name: A\ncompute: [{name: n, count: 1, cpus: four}]")
    first, second = invalid.value.problems
    assert str(second) == 'cluster.yaml:2: compute[0].cpus: found "four", expected an integer'
    assert (first.line, first.where, first.suggestion) == (1, "name", "a")
    assert str(invalid.value).splitlines() == ["cluster.yaml: 2 problems", f"  {first}", f"  {second}"]
    assert (invalid.value.exit_code, invalid.value.code) == (Exit.USAGE, "invalid_spec")


def test_a_missing_file(tmp_path):
    with pytest.raises(NotFound, match="no such file"):
        load_spec(tmp_path / "cluster.yaml")


def test_a_folder(tmp_path):
    with pytest.raises(UsageFault, match="Is a directory"):
        load_spec(tmp_path)


def test_a_file_of_a_mebibyte_is_read_and_a_larger_one_refused(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(MINIMAL + "#" * (MAX_BYTES - len(MINIMAL)))
    assert load_spec(path).name == "a"
    path.write_text(MINIMAL + "#" * (MAX_BYTES - len(MINIMAL) + 1))
    assert "more than 1 MiB" in str(only_problem(path))


def test_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_bytes(b"name: a\n# caf\xe9\n")
    assert str(only_problem(path)).endswith("cluster.yaml:2: found byte 0xe9, which is not UTF-8, expected UTF-8 text")


def test_a_byte_order_mark_and_windows_line_ends(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_spec(path).name == "a"


def test_deep_nesting_is_a_problem_not_a_crash():
    with pytest.raises(SpecInvalid):
        spec_of("name: " + "[" * 100_000)
    with pytest.raises(SpecInvalid, match="at most 12 levels"):
        spec_of("name: " + "[" * 500 + "]" * 500)


def test_ten_thousand_nodes_load_in_time():
    started = time.perf_counter()
    spec = spec_of("name: a\ncompute: [{name: n, count: 10000, gpus: {type: h100, count: 8}}]", max_nodes=10000)
    assert len(spec.partition_specs[0].nodes) == 10000
    assert time.perf_counter() - started < 1


@given(st.text())
def test_no_text_breaks_the_reader(text):
    assert isinstance(read_document(text, "cluster.yaml"), Document)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
TREES = st.recursive(
    LEAVES,
    lambda kids: st.lists(kids, max_size=3) | st.dictionaries(st.text(max_size=5), kids, max_size=3),
    max_leaves=9,
)
CASES = Path(__file__).parent.parent / "cases" / "spec"
FULL = {name: (CASES / f"{name}.yaml").read_text() for name in ("all-keys", "hosts-all-keys", "docker")}
PLACES = {name: tuple(read_document(text, "cluster.yaml").lines)[1:] for name, text in FULL.items()}


@given(st.data())
def test_any_values_are_a_spec_or_a_list_of_problems(data):
    name = data.draw(st.sampled_from(sorted(FULL)))
    changes = data.draw(st.dictionaries(st.sampled_from(PLACES[name]), TREES, max_size=5))
    tree = read_document(FULL[name], "cluster.yaml").value
    for *parents, last in sorted(changes, key=len, reverse=True):
        reduce(lambda inner, part: inner[part], parents, tree)[last] = changes[(*parents, last)]
    try:
        spec_of(json.dumps(tree))
    except SpecInvalid as invalid:
        assert all(problem.line >= 1 and "\n" not in str(problem) for problem in invalid.problems)


@pytest.mark.parametrize("name", sorted(FULL))
def test_one_fault_hides_no_other(name):
    """Whatever is wrong at one place, the rules still see the rest: a second controller is told each time."""
    for place in PLACES[name]:
        tree = read_document(FULL[name], "cluster.yaml").value
        reduce(lambda inner, part: inner[part], place[:-1], tree)[place[-1]] = {"": []}
        tree["controller"] = {"count": 2}
        if place[0] == "controller":
            continue
        with pytest.raises(SpecInvalid) as invalid:
            spec_of(json.dumps(tree))
        assert "controller.count" in [problem.where for problem in invalid.value.problems], place
