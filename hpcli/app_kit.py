"""A kit: the bundle with the files of every machine of one adopted cluster, for a tool of the site's own."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from hpcli import app
from hpcli.app_plan import Order
from hpcli.domain.adoption_lines import Line, lines_for
from hpcli.domain.diagnosis import Configuration, parse_configuration
from hpcli.errors import HpcliError
from hpcli.ports import Progress
from hpcli.version import __version__

LIMIT = 30.0


async def write(wanted: Order, path: Path, progress: Progress) -> None:
    """Write the kit whole or not at all; no machine is asked, all are taken to run systemd. Raises `HpcliError`."""
    import platform

    from hpcli.providers.remote.adopted import make_adopted
    from hpcli.providers.remote.bundle import write_bundle
    from hpcli.providers.remote.hosts import places_of
    from hpcli.providers.remote.release import pack_files, requirements, this_release
    from hpcli.providers.remote.wheels import Downloads, Target, usual_pythons

    release = this_release()
    places = [replace(place, hostname=place.name, systemd=True) for place in places_of(wanted.spec)]
    goal = make_adopted(wanted.spec, wanted.text, places, wanted.spec.slurm.version or "", release.id)
    site = {
        host: pack_files([(file.path, file.mode, file.owner, file.group, file.text) for file in files])
        for host, files in goal.files.items()
    }
    with tempfile.TemporaryDirectory(prefix="hpcli-kit-") as folder:
        downloads = Downloads(app.local_transport(), sys.executable, progress, wanted.spec.packages.pip_index or "")
        targets = [Target(python, platform.machine()) for python in usual_pythons()]
        await downloads.fetch(requirements().splitlines(), targets, Path(folder))
        progress.step(f"writing {path}")
        write_bundle(path, release, __version__, Path(folder), site)


async def lines(wanted: Order, _progress: Progress) -> tuple[Line, ...]:
    """The lines that the site needs, by what Slurm says here; where it says nothing, all of them."""
    try:
        answer = await app.local_transport().run(["scontrol", "show", "config"], env={"LC_ALL": "C"}, timeout=LIMIT)
        found = parse_configuration(answer.out)
    except HpcliError:
        found = None
    return lines_for(found or Configuration({}), wanted.spec.adopted.chain_prolog, {})
