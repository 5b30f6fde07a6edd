"""Rules about users and groups of the system."""

from collections.abc import Iterator

from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, show
from hpcli.spec.rules.rule import Limits, Rule, close, doubles

RESERVED = frozenset({"root", "slurm", "munge", "mysql", "nobody", "sshd"})
SYSTEM_GROUPS = frozenset({"adm", "audio", "cdrom", "dialout", "plugdev", "staff", "sudo", "users", "video"})
"""Groups with the same number on every Debian (base-passwd), so that users may be added to them."""

DOCKER_ADMIN, DOCKER_ADMIN_ID = "admin", 1000
"""The user of our images through whom hpcli logs in."""


def _unique_people(spec: Spec, _: Limits) -> Iterator[Finding]:
    yield from doubles(("groups",), "name", "group", [group.name for group in spec.groups])
    yield from doubles(("groups",), "gid", "group with gid", [group.gid for group in spec.groups])
    yield from doubles(("users",), "name", "user", [user.name for user in spec.users])
    yield from doubles(("users",), "uid", "user with uid", [user.uid for user in spec.users])


def _reserved(spec: Spec, _: Limits) -> Iterator[Finding]:
    sections = {"users": [user.name for user in spec.users], "groups": [group.name for group in spec.groups]}
    for section, names in sections.items():
        for i, name in enumerate(names):
            why = _reason(spec, name)
            if why:
                yield Finding((section, i, "name"), show(name), f"another name: {why}")


def _reason(spec: Spec, name: str) -> str:
    if name in RESERVED:
        return "the system has this one"
    if name == _admin(spec):
        return "hpcli logs in as this user"
    return ""


def _admin(spec: Spec) -> str | None:
    return {"docker": DOCKER_ADMIN, "hosts": spec.hosts.user}.get(spec.provider)


def _docker_ids(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.provider != "docker":
        return
    expected = f"another number: {DOCKER_ADMIN} has {DOCKER_ADMIN_ID} in the images"
    for i, user in enumerate(spec.users):
        if user.uid == DOCKER_ADMIN_ID:
            yield Finding(("users", i, "uid"), show(user.uid), expected)
    for i, group in enumerate(spec.groups):
        if group.gid == DOCKER_ADMIN_ID:
            yield Finding(("groups", i, "gid"), show(group.gid), expected)


def _known_groups(spec: Spec, _: Limits) -> Iterator[Finding]:
    known = sorted({group.name for group in spec.groups})
    listed = ", ".join(known) or "there are none"
    for i, user in enumerate(spec.users):
        if user.group is not None and user.group not in known:
            expected = f"one of groups ({listed})"
            yield Finding(
                ("users", i, "group"), f"unknown group {show(user.group)}", expected, close(user.group, known)
            )
        for j, group in enumerate(user.groups):
            if group not in known and group not in SYSTEM_GROUPS:
                expected = f"one of groups ({listed}), or of the system's {', '.join(sorted(SYSTEM_GROUPS))}"
                yield Finding(("users", i, "groups", j), f"unknown group {show(group)}", expected, close(group, known))


def _own_groups(spec: Spec, _: Limits) -> Iterator[Finding]:
    """A user without `group` gets one of the same name and number."""
    numbers = {group.name: group.gid for group in spec.groups}
    names = {group.gid: group.name for group in spec.groups}
    for i, user in enumerate(spec.users):
        if user.group is not None:
            continue
        if numbers.get(user.name, user.uid) != user.uid:
            found = f"no group, while groups has {user.name} with gid {numbers[user.name]}"
            yield Finding(("users", i), found, f"group: {user.name}, or gid {user.uid} there")
        elif names.get(user.uid, user.name) != user.name:
            found = f"no group, while gid {user.uid} is {names[user.uid]}'s"
            yield Finding(("users", i), found, "a group, or another uid")


RULES = (
    Rule(_unique_people, ("users", "groups")),
    Rule(_reserved, ("users.name", "groups.name", "provider", "hosts.user")),
    Rule(_docker_ids, ("users.uid", "groups.gid", "provider")),
    Rule(_known_groups, ("groups", "users.group", "users.groups")),
    Rule(_own_groups, ("groups", "users.name", "users.uid", "users.group")),
)
