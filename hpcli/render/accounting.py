"""Slurm's accounting: its parameters of slurm.conf, and slurmdbd.conf. See slurmdbd.conf(5)."""

from collections.abc import Iterator

from hpcli.errors import HpcliError
from hpcli.render import safe
from hpcli.render.engine import render
from hpcli.render.parameters import Section, parameters
from hpcli.render.site import AccountingSite, SlurmSite
from hpcli.spec.model import Spec

DEFAULT_SOCKETS = frozenset({"/run/munge/munge.socket.2", "/var/run/munge/munge.socket.2"})
"""Where munge's library looks by itself."""


def accounting_parameters(spec: Spec, site: SlurmSite) -> Iterator[tuple[str, str]]:
    """Give slurm.conf's part of it. Raises `HpcliError` when the provider has no accounting."""
    if not spec.accounting.enabled:
        return
    accounting = _accounting(site)
    yield "AccountingStorageType", "accounting_storage/slurmdbd"
    yield "AccountingStorageHost", _address(accounting, site)
    yield "AccountingStoragePort", safe.port("slurmdbd port", accounting.port)
    if own_socket(site):
        yield "AccountingStoragePass", safe.path("munge socket", site.munge_socket)
    if any(node.gpu_count for node in spec.nodes):
        yield "AccountingStorageTRES", "gres/gpu"


def render_slurmdbd(spec: Spec, site: SlurmSite) -> str:
    """Render slurmdbd.conf, which holds the password of an external database."""
    accounting = _accounting(site)
    files = (
        ("LogFile", safe.path("slurmdbd log", accounting.log)),
        ("PidFile", safe.path("slurmdbd pid file", accounting.pid)),
    )
    sections = (
        "\n".join(section.text for section in _identity(accounting, site)),
        Section(parameters(_storage(accounting)), _storage_comment(accounting, site)).text,
        Section(parameters(files)).text,
    )
    return render("slurm/slurmdbd.conf.j2", {"cluster": spec.name, "sections": sections})


def own_socket(site: SlurmSite) -> bool:
    """Tell whether munge's socket must be named, being none that Slurm finds by itself."""
    return site.shared_machine or site.munge_socket not in DEFAULT_SOCKETS


def _accounting(site: SlurmSite) -> AccountingSite:
    if site.accounting is None:
        raise HpcliError(
            "accounting", "found it enabled, expected a provider that has it", "set accounting.enabled: false"
        )
    return site.accounting


def _address(accounting: AccountingSite, site: SlurmSite) -> str:
    return safe.address("slurmdbd address", accounting.address or site.controller.address)


def _identity(accounting: AccountingSite, site: SlurmSite) -> Iterator[Section]:
    yield Section(parameters(_place(accounting, site)))
    if site.shared_machine:
        own_address = (("CommunicationParameters", "NoInAddrAny"),)
        yield Section(parameters(own_address), "Without this slurmdbd listens on every address.")
    yield Section(parameters((("SlurmUser", safe.word("user", site.user)),)))


def _place(accounting: AccountingSite, site: SlurmSite) -> Iterator[tuple[str, str]]:
    hostname = "localhost" if site.shared_machine else accounting.hostname or site.controller.hostname
    yield "AuthType", "auth/munge"
    if own_socket(site):
        yield "AuthInfo", f"socket={safe.path('munge socket', site.munge_socket)}"
    yield "DbdHost", safe.host("slurmdbd host name", hostname)
    yield "DbdAddr", _address(accounting, site)
    yield "DbdPort", safe.port("slurmdbd port", accounting.port)


def _storage(accounting: AccountingSite) -> Iterator[tuple[str, str]]:
    yield "StorageType", "accounting_storage/mysql"
    yield "StorageHost", safe.address("database host", accounting.storage_host or "localhost")
    if accounting.storage_port:
        yield "StoragePort", safe.port("database port", accounting.storage_port)
    yield "StorageUser", safe.word("database user", accounting.user)
    if accounting.password:
        yield "StoragePass", safe.password("database password", accounting.password)
    yield "StorageLoc", safe.word("database", accounting.database)


def _storage_comment(accounting: AccountingSite, site: SlurmSite) -> str:
    if accounting.storage_host:
        return "This file alone holds the password; only its owner may read it."
    if site.shared_machine:
        return "The database is reached through its socket (MYSQL_UNIX_PORT), which only its owner can open."
    return "The database is reached through its socket, without a password."
