"""Files of defaults under a spec: what counts, and where problems point."""

from pathlib import Path

import pytest

from hpcli.errors import UsageFault
from hpcli.spec.load import SITE_DEFAULTS, default_files, load_spec
from hpcli.spec.model import Spec
from hpcli.spec.problems import SpecInvalid

MINIMAL = "name: a\ncompute: [{name: n, count: 2}]\n"


class Files:
    """A spec and its two files of defaults in a folder."""

    def __init__(self, folder: Path) -> None:
        self.spec = folder / "cluster.yaml"
        self.site, self.user = folder / "site" / "defaults.yaml", folder / "user" / "defaults.yaml"
        self.site.parent.mkdir()
        self.user.parent.mkdir()

    def load(self, spec: str = MINIMAL, site: str | None = None, user: str | None = None) -> Spec:
        self.spec.write_text(spec)
        for path, text in ((self.site, site), (self.user, user)):
            if text is not None:
                path.write_text(text)
        return load_spec(self.spec, defaults=(self.site, self.user))

    def problems(self, spec: str = MINIMAL, site: str | None = None, user: str | None = None) -> list[str]:
        with pytest.raises(SpecInvalid) as invalid:
            self.load(spec, site, user)
        return [str(problem).replace(f"{self.spec.parent}/", "") for problem in invalid.value.problems]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_the_spec_counts_over_the_user_over_the_site(files):
    spec = files.load(
        f"{MINIMAL}recovery: {{reboot_timeout: 1m}}\n",
        site="recovery: {reboot_timeout: 2m, replace_timeout: 2m, acceptance_timeout: 2m}\n",
        user="recovery: {reboot_timeout: 3m, replace_timeout: 3m}\n",
    )
    recovery = spec.recovery
    assert (recovery.reboot_timeout, recovery.replace_timeout, recovery.acceptance_timeout) == (60, 180, 120)
    assert recovery.evict_grace == 2.0


def test_mappings_merge_deep_and_lists_replace(files):
    spec = files.load(
        f"{MINIMAL}health: {{checks: {{disk.free: {{warn: 80}}}}}}\nprolog: []\nslurm_conf: {{MessageTimeout: 20}}\n",
        site="health: {interval: 20s, checks: {disk.free: {critical: 95}, gpu.count: {enabled: false}}}\n"
        "prolog: [x.sh]\nslurm_conf: {MessageTimeout: 10, KillWait: 5}\n",
    )
    assert spec.health.checks == {"disk.free": {"critical": 95, "warn": 80}, "gpu.count": {"enabled": False}}
    assert (spec.health.interval, spec.prolog) == (20.0, ())
    assert spec.slurm_conf == {"MessageTimeout": 20, "KillWait": 5}


def test_without_files_of_defaults_and_with_empty_ones(files):
    assert files.load() == files.load(site="", user="# nothing yet\n")


def test_defaults_do_not_reach_other_callers(files):
    files.site.write_text("local: {agents: per-node}\n")
    files.spec.write_text(MINIMAL)
    assert load_spec(files.spec).local.agents == "shared"


def test_a_group_takes_over_what_it_does_not_say(files):
    spec = files.load(
        "name: a\ncompute:\n- {name: x, count: 1}\n- {name: y, count: 1, cpus: 2, gpus: null}\n"
        "- {name: z, count: 1, gpus: {count: 4}}\ncompute_defaults: {cpus: 8}\n",
        site="compute_defaults: {cpus: 4, memory: 2G, gpus: {type: h100, count: 8}}\n",
    )
    shapes = [(node.cpus, node.memory, node.gpu_type, node.gpu_count) for node in spec.nodes]
    assert shapes == [(8, 2048, "h100", 8), (2, 2048, "", 0), (8, 2048, "h100", 4)]
    assert (spec.compute_defaults.cpus, spec.compute_defaults.memory) == (8, 2048)


def test_problems_point_into_the_file_that_said_it(files):
    assert files.problems(
        f"{MINIMAL}recovery:\n  budget: {{share: 200%}}\n  report_timeout: 1h\n",
        site="# the site's\n\nrecovery:\n  report_timeout: soon\n  reboot_timeout: soon\nhealth: {intervall: 3}\n",
        user="accounting: {enabled: maybe}\n",
    ) == [
        'cluster.yaml:4: recovery.budget.share: found "200%", expected a share such as 10% or 0.1, at most 100%',
        'site/defaults.yaml:5: recovery.reboot_timeout: found "soon", expected a duration from 1s to 30d such as 10m, '
        "2s, 1h, or plain seconds",
        "site/defaults.yaml:6: health.intervall: found an unknown key, expected one of interval, checks, kernel_log "
        "(did you mean interval?)",
        'user/defaults.yaml:1: accounting.enabled: found "maybe", expected true or false',
    ]


def test_a_rule_broken_by_a_default_points_there_too(files):
    assert files.problems(site="slurm_conf:\n  KillWait: 3\n  SlurmUser: me\n") == [
        "site/defaults.yaml:3: slurm_conf.SlurmUser: found SlurmUser, which hpcli owns, expected nothing: hpcli sets it"
    ]


def test_a_faulty_default_of_groups_is_told_once(files):
    text = "name: a\ncompute: [{name: n, count: 2}, {name: m, count: 2}]\n"
    assert files.problems(text, user="\ncompute_defaults: {cpus: 0}\n") == [
        "user/defaults.yaml:2: compute_defaults.cpus: found 0, expected at least 1"
    ]


def test_a_rule_about_an_inherited_value_names_the_group_and_the_line_of_the_default(files):
    assert files.problems(site="compute_defaults:\n  memory: 1G\n  spares: 2\n") == [
        "site/defaults.yaml:3: compute[0].spares: found 2, expected at most 1: the group has 2 nodes"
    ]


@pytest.mark.parametrize("key", ["name", "compute", "controller", "login", "partitions"])
def test_what_each_cluster_says_itself_has_no_default(files, key):
    expected = f"site/defaults.yaml:2: {key}: found a key that has no default, expected it in cluster.yaml: "
    assert files.problems(site=f"local: {{agents: shared}}\n{key}: 3\n") == [f"{expected}each cluster has its own"]


def test_defaults_that_are_no_mapping_or_no_yaml(files):
    assert files.problems(site="[1]", user="a: [") == [
        "site/defaults.yaml:1: found a list, expected a mapping with defaults",
        "user/defaults.yaml:1: found broken YAML (while parsing a flow node did not find expected node content), "
        "expected valid YAML",
    ]


def test_a_key_twice_in_the_defaults(files):
    [problem] = files.problems(site="slurm: {version: 22.05}\nslurm: {version: 24.11}\n")
    assert problem.startswith("site/defaults.yaml:2: slurm: found the key a second time (first on line 1)")


def test_defaults_that_cannot_be_read(files):
    files.site.mkdir()
    with pytest.raises(UsageFault, match="Is a directory"):
        files.load()


def test_a_local_cluster_leaves_out_what_it_has_no_use_for(files):
    site = (
        "users: [{name: alice, uid: 2001}]\nmounts: [{path: /home, nfs: 'a:/b'}]\npam_slurm_adopt: true\n"
        "accounting: {enabled: true, database: {host: db, password_file: x}}\n"
    )
    spec = files.load(site=site)
    assert (spec.users, spec.mounts, spec.pam_slurm_adopt, spec.accounting.database) == ((), (), False, None)
    assert spec.accounting.enabled
    (files.spec.parent / "site" / "x").write_text("secret\n")
    (files.spec.parent / "site" / "x").chmod(0o600)
    assert files.load(f"{MINIMAL}provider: hosts\n", site).users[0].name == "alice"
    assert len(files.problems(f"{MINIMAL}users: [{{name: bob, uid: 2002}}]\n", site)) == 1


def test_the_provider_may_be_a_default(files):
    spec = files.load(site="provider: hosts\nusers: [{name: alice, uid: 2001}]\n")
    assert (spec.provider, spec.users[0].uid) == ("hosts", 2001)


def test_paths_count_from_the_file_that_says_them(files):
    for path in (files.site.parent / "clean.sh", files.spec.parent / "prepare.sh"):
        path.write_text("#!/bin/sh\n")
    spec = files.load(f"{MINIMAL}prolog: [prepare.sh]\n", site="epilog: [clean.sh]\n")
    assert spec.prolog == (str(files.spec.parent / "prepare.sh"),)
    assert spec.epilog == (str(files.site.parent / "clean.sh"),)


@pytest.mark.parametrize(
    ("environ", "user_file"),
    [
        ({"HOME": "/home/a"}, "/home/a/.config/hpcli/defaults.yaml"),
        ({"HOME": "/home/a", "XDG_CONFIG_HOME": "/x"}, "/x/hpcli/defaults.yaml"),
        ({"HOME": "/home/a", "XDG_CONFIG_HOME": "relative"}, "/home/a/.config/hpcli/defaults.yaml"),
        ({}, None),
    ],
)
def test_where_the_files_of_defaults_are(environ, user_file):
    assert default_files(environ) == (SITE_DEFAULTS, *([Path(user_file)] if user_file else []))


def test_what_a_replaced_list_lacks_is_told_of_the_list_that_counts(files):
    users = "users:\n- name: alice\n  uid: 2001\n"
    assert files.problems(f"{MINIMAL}provider: hosts\n", site=users, user="\n\nusers: [{name: bob}]\n") == [
        "user/defaults.yaml:3: users[0].uid: found nothing, expected a value: its number, the same on every machine"
    ]
