"""Where a cluster's secrets are, and where they are not."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.faults_secrets import Onlookers, holders, holders_here, serve_database
from tests.docker.faults_site import Site, begin, made
from tests.e2e.life import Cli

pytestmark = pytest.mark.docker


@pytest.fixture
def secretive(tmp_path: Path) -> Iterator[tuple[Site, Cli]]:
    """Machines, and a database of somebody else's."""
    yield from made(Site(tmp_path, "h-secret", "172.29.95", ("ctl", "c1", "spare-db")))


def test_secrets_lie_in_files_of_their_owner_alone_and_nowhere_else(secretive: tuple[Site, Cli]) -> None:
    """Looked for in every file, command line and environment of every machine and of this one, in all that is said."""
    site, cli = secretive
    password = "pass-" + secrets.token_hex(12)
    serve_database(site, "spare-db", password)
    file = site.folder / "db.password"
    file.write_text(f"{password}\n")
    file.chmod(0o600)
    database = f"{{host: {site.address('spare-db')}, password_file: {file}}}"
    spec = site.write(
        f"accounting: {{enabled: true, database: {database}}}\naccounts: [{{name: lab, description: Lab}}]\n"
    )
    saved = site.folder / "plan.json"
    with Onlookers(site, ("ctl", "c1")) as seen:
        up = begin(cli, "cluster", "up", "-f", spec, "-v")
        said = "".join(up.communicate(timeout=180))
        assert up.returncode == 0, said
        Path(spec).write_text(
            site.spec(f"accounting: {{enabled: true, database: {database}}}\nslurm_conf: {{MessageTimeout: 22}}\n")
        )
        file.write_text(f"other-{password}\n")
        cli("cluster", "plan", "-f", spec, "-o", str(saved))
        file.write_text(f"{password}\n")
        cli("cluster", "apply", "-f", spec, "--yes")
    home = cli.home / "hpcli" / "clusters" / site.name
    keys = {
        "password": password,
        "munge key": (home / "munge.key").read_text().strip(),
        "keeper's key": (home / "id_ed25519").read_text().splitlines()[2],
        "administrator's key": (site.folder / "id").read_text().splitlines()[2],
    }
    assert "run.sh" in seen.text and "slurmdbd" in seen.text, "the onlookers saw nothing"
    for name, key in keys.items():
        assert key not in seen.text, f"{name} in a command line or an environment"
        assert key not in said + saved.read_text(), f"{name} was said"
    where = {name: {*holders(site, key), *holders_here(site.folder, key)} for name, key in keys.items()}
    assert where["password"] == {
        "ctl 600 /etc/slurm/slurmdbd.conf",
        "ctl 600 /var/lib/hpcli/applied.json",
        "600 db.password",
    }
    assert where["munge key"] == {
        "ctl 600 /etc/munge/munge.key",
        "c1 600 /etc/munge/munge.key",
        "ctl 600 /var/lib/hpcli/applied.json",
        f"600 state/hpcli/clusters/{site.name}/munge.key",
    }
    assert where["keeper's key"] == {
        "ctl 600 /etc/hpcli/keeper/id_ed25519",
        "ctl 600 /var/lib/hpcli/applied.json",
        f"600 state/hpcli/clusters/{site.name}/id_ed25519",
    }
    assert where["administrator's key"] == {"600 id"}
