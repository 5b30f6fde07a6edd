"""What docker says when it refuses, as errors that name the object and the next step."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from hpcli.errors import HpcliError, NotFound, Unreachable, Unsafe

ENGINE = "Docker engine"
IN_GROUP = "let an administrator run: usermod -aG docker USER; then log in again"
START = "start it (systemctl start docker), or set DOCKER_HOST to where it listens"
FREE_SPACE = "free some on the disk of Docker's folder: docker system df"
MOUNTS = "make the folder on the Docker host, or change mounts in cluster.yaml"
SUBNET = "set docker.subnet in cluster.yaml to a network that nothing else uses, such as 172.30.7.0/24"


class SubnetTaken(HpcliError):
    """Another network has addresses of this subnet."""

    code = "subnet_taken"


class NetworkGone(HpcliError):
    """A container's network was removed while the container was stopped."""

    code = "network_gone"


@dataclass(frozen=True, slots=True)
class _Rule:
    """An answer of docker's that `pattern` finds. `message` may name its groups as {0}, {1}."""

    pattern: re.Pattern[str]
    kind: Callable[[str, str, str], HpcliError]
    subject: str
    message: str
    hint: str


def _rule(pattern: str, kind: type[HpcliError], subject: str, message: str, hint: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), kind, subject, message, hint)


_RULES = (
    _rule(
        r"permission denied while trying to connect",
        Unreachable,
        ENGINE,
        "found its socket closed to us, expected us in group docker",
        IN_GROUP,
    ),
    _rule(
        r"(?:cannot connect to the docker daemon|failed to connect to the docker api) at (\S+?)[.;](?:\s|$)",
        Unreachable,
        ENGINE,
        "found none that answers at {0}, expected one",
        START,
    ),
    _rule(r"error during connect: (.+)", Unreachable, ENGINE, "found none that answers: {0}", START),
    _rule(r"no space left on device", HpcliError, ENGINE, "found no space left on its disk, expected some", FREE_SPACE),
    _rule(
        r"container name \"/?([^\"]+)\" is already in use",
        Unsafe,
        "container {0}",
        "found one of that name already, expected none",
        "remove it (docker rm -f {0}), or name the cluster otherwise",
    ),
    _rule(
        r"pool overlaps with other one",
        SubnetTaken,
        "subnet",
        "found its addresses in another network, expected them free",
        SUBNET,
    ),
    _rule(
        r"address already in use",
        HpcliError,
        "address",
        "found it in use by another container, expected it free",
        "which one? see: docker network inspect",
    ),
    _rule(
        r"invalid subnet (\S+)",
        HpcliError,
        "docker.subnet {0}",
        "found no subnet, expected one such as 172.30.7.0/24",
        "correct it in cluster.yaml",
    ),
    _rule(
        r"bind source path does not exist: (.+)",
        HpcliError,
        "mount {0}",
        "found no such folder on the Docker host, expected one",
        MOUNTS,
    ),
    _rule(
        r"invalid argument \"([^\"]*)\" for \"-m, --memory\"|(minimum memory limit allowed.*)",
        HpcliError,
        "docker.memory",
        "found {0}{1}, expected memory such as 512m or 2g",
        "correct it in cluster.yaml",
    ),
    _rule(
        r"no such image: (?:.*no such image: )?(\S+)",
        NotFound,
        "image {0}",
        "found none in the Docker engine, expected it",
        "build or pull it, or set docker.image in cluster.yaml to another",
    ),
    _rule(
        r"no such container: (\S+)",
        NotFound,
        "container {0}",
        "found none of that name, expected one",
        "make it anew: hpcli cluster up",
    ),
    _rule(
        r"network ([0-9a-f]{64}) not found",
        NetworkGone,
        "network {0}",
        "found it removed, expected it where its stopped containers left it",
        "make them anew: hpcli cluster up",
    ),
    _rule(
        r"network (\S+) id \S+ has active endpoints",
        Unsafe,
        "network {0}",
        "found containers in it that are not this cluster's, expected none",
        "which ones? see: docker network inspect {0}",
    ),
)


def fault(argv: tuple[str, ...], err: str) -> HpcliError:
    """Make the error of a docker command that failed with this standard error."""
    for rule in _RULES:
        if found := rule.pattern.search(err):
            groups = [part or "" for part in found.groups()]
            return rule.kind(rule.subject.format(*groups), rule.message.format(*groups), rule.hint.format(*groups))
    return HpcliError(f"docker {argv[0]}", _said(err), "run by hand: docker info")


def _said(err: str) -> str:
    """The line that says it: docker adds advice on its own usage after it."""
    lines = [
        line.strip() for line in err.splitlines() if line.strip() and not line.startswith(("Run 'docker", "See '"))
    ]
    telling = next((line for line in lines if "rror" in line), lines[-1] if lines else "failed without a word")
    return re.sub(r"^(docker: )?(Error response from daemon: )?", "", telling)


def no_program() -> HpcliError:
    """Make the error for a machine without docker."""
    return NotFound(
        "docker",
        "found no such program, expected Docker's command line",
        "install it (Debian: apt-get install docker.io), or use another provider",
    )
