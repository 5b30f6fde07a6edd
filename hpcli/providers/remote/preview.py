"""What a remote cluster's machines would be given, without asking or making any."""

from hpcli.domain.blueprint import ADOPTED, Blueprint, Place
from hpcli.providers.docker.addresses import FIRST
from hpcli.providers.remote.adopted import make_adopted
from hpcli.providers.remote.blueprint import Ingredients, Secrets, make_blueprint
from hpcli.providers.remote.docker import ADMIN, DEFAULT_SERIES
from hpcli.providers.remote.ground import ClusterKey
from hpcli.providers.remote.hosts import roles_of
from hpcli.spec.model import Spec

EXAMPLE_NETWORK = "172.30.255"
HIDDEN = "(secret, not shown)\n"


def preview(spec: Spec, text: str) -> dict[str, str]:
    """Texts by `machine:path`, one machine of each role, Slurm's files first once for all."""
    blueprint = _blueprint(spec, text)
    shown: dict[str, str] = {}
    roles = set()
    for place in blueprint.places:
        if place.role in roles:
            continue
        roles.add(place.role)
        for file in blueprint.files[place.name]:
            if file.text not in shown.values() or file.secret:
                shown[f"{place.name}:{file.path}"] = HIDDEN if file.secret else file.text
    return shown


def _blueprint(spec: Spec, text: str) -> Blueprint:
    hosts = spec.provider != "docker"
    places = [
        Place(
            name=name,
            role=role,
            address=spec.address_of(name) if hosts else f"{EXAMPLE_NETWORK}.{FIRST + number}",
            hostname=name,
            systemd=hosts,
        )
        for number, (name, role) in enumerate(roles_of(spec))
    ]
    if spec.provider == ADOPTED:
        return make_adopted(spec, text, places, spec.slurm.version or "", "")
    given = Ingredients(
        provider=spec.provider,
        admin=spec.hosts.user or ADMIN,
        bound=not hosts,
        can_replace=True,
        port=spec.hosts.port or 0,
        secrets=Secrets("", "hidden"),
        key=ClusterKey("", "ssh-ed25519 KEY hpcli") if hosts else None,
    )
    return make_blueprint(spec, text, places, spec.slurm.version or DEFAULT_SERIES, given)
