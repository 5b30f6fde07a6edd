"""Giving clusters names, and choosing one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hpcli.domain.cluster import Built
from hpcli.domain.context import Context, Contexts, check_name, unknown
from hpcli.errors import NotFound, UsageFault
from hpcli.ports import Transport

LOOK = """\
[ -z "$1" ] || [ -r "$1" ] || echo conf=missing
echo "user=$(id -un)"
for program in scontrol squeue sbatch scancel hpcli; do
    command -v "$program" >/dev/null || echo "missing=$program"
done
command -v scontrol >/dev/null && echo "slurm=$(scontrol --version)"
command -v hpcli >/dev/null && echo "hpcli=$(hpcli --version)"
:
"""
LIMIT = 30.0


class ContextStore(Protocol):
    """Where a user's contexts are kept."""

    def read(self) -> Contexts: ...

    def change(self, change: Callable[[Contexts], Contexts]) -> Contexts:
        """Replace what is there; what `change` raises leaves all as it was."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What is on the machine where a context's commands run; "" for what is not there."""

    user: str
    slurm: str
    hpcli: str


@dataclass(frozen=True, slots=True)
class ContextRow:
    """A context or a cluster that was brought up here, as `list` and `show` tell of it."""

    name: str
    current: bool
    kind: str
    where: str
    slurm_conf: str
    identity: str = ""
    known_hosts: str = ""


async def look(context: Context, transport: Transport) -> Found:
    """See whether Slurm's programs are there. Raises `Unreachable` (host keys too), `NotFound`."""
    subject = f"host {context.host}" if context.host else "this machine"
    done = await transport.run(["sh", "-c", LOOK, "sh", context.slurm_conf], timeout=LIMIT)
    said = [(key, value) for key, _, value in (line.partition("=") for line in done.out.splitlines())]
    missing = [value for key, value in said if key == "missing" and value != "hpcli"]
    if missing:
        words = f"found no {', '.join(missing)} on PATH there, expected Slurm's programs"
        raise NotFound(subject, words, "install slurm-client, or name another machine; --no-check adds it unseen")
    if ("conf", "missing") in said:
        raise NotFound(f"{subject}: {context.slurm_conf}", "found no such file to read, expected slurm.conf", "")
    facts = dict(said)
    return Found(facts.get("user", ""), facts.get("slurm", ""), facts.get("hpcli", ""))


def check_new(context: Context, contexts: Contexts, clusters: Sequence[str]) -> None:
    """Before anything is asked. Raises `UsageFault`."""
    check_name(context.name)
    if context.name in clusters:
        found = "found a cluster of that name that was brought up here: it is a context by itself"
        raise UsageFault(f"context {context.name}", found, "choose another name")
    if not context.host and not context.slurm_conf:
        found = "found neither --ssh nor --slurm-conf, expected one of them"
        raise UsageFault(f"context {context.name}", found, "hpcli context add NAME --ssh USER@HOST")
    if not context.host and (context.identity or context.known_hosts):
        found = "found an option of SSH without --ssh"
        raise UsageFault(f"context {context.name}", found, "hpcli context add NAME --ssh USER@HOST")
    contexts.with_added(context)


def keep(store: ContextStore, context: Context, found: Found | None) -> None:
    """Write it down. Raises `UsageFault` when another command has just taken the name."""
    seen = replace(context, login=found.user) if found else context
    store.change(lambda contexts: contexts.with_added(seen))


def use(store: ContextStore, name: str, clusters: Sequence[str]) -> None:
    """Make it the one that is meant where no other is named; "" for none. Raises `NotFound`."""

    def change(contexts: Contexts) -> Contexts:
        if name and name not in contexts.known and name not in clusters:
            raise unknown(name)
        return contexts.using(name)

    store.change(change)


def remove(store: ContextStore, name: str, clusters: Sequence[str]) -> bool:
    """Forget it; whether it was the current one. Raises `NotFound`, and `UsageFault` for a cluster."""
    if name in clusters and name not in store.read().known:
        found = "found a cluster that was brought up here, expected a context that was added"
        raise UsageFault(f"context {name}", found, f"to end the cluster: hpcli cluster down {name}")
    was_current: list[bool] = []

    def change(contexts: Contexts) -> Contexts:
        was_current.append(contexts.current == name)
        return contexts.without(name)

    store.change(change)
    return was_current[-1]


def rows(
    contexts: Contexts, clusters: Sequence[Built], wheres: Mapping[str, str], meant: str
) -> tuple[ContextRow, ...]:
    """All that a name can mean; a cluster brought up here comes before a context of its name. `meant` is marked."""
    found = {
        context.name: ContextRow(
            name=context.name,
            current=context.name == meant,
            kind="ssh" if context.host else "local",
            where=context.where,
            slurm_conf=context.slurm_conf,
            identity=context.identity,
            known_hosts=context.known_hosts,
        )
        for context in contexts.known.values()
    }
    for built in clusters:
        found[built.name] = ContextRow(
            name=built.name,
            current=built.name == meant,
            kind=f"cluster ({built.provider})",
            where=wheres.get(built.name, "this machine"),
            slurm_conf=built.slurm_conf,
        )
    return tuple(found[name] for name in sorted(found))
