"""A spec to the blueprint of a cluster that somebody else built: hpcli's own files, and none beside."""

from collections.abc import Sequence

from hpcli.domain.blueprint import ADOPTED, Blueprint, Place
from hpcli.providers.remote.bootstrap import script_text
from hpcli.render.adopted import adopted_files
from hpcli.spec.model import Spec


def make_adopted(spec: Spec, spec_text: str, places: Sequence[Place], series: str, release: str) -> Blueprint:
    """`release` is the id of the hpcli that goes along."""
    prolog = script_text("slurm/prolog")
    return Blueprint(
        cluster=spec.name,
        provider=ADOPTED,
        slurm_version=series,
        spec_text=spec_text,
        places=tuple(places),
        files={place.name: adopted_files(spec, place, prolog, release) for place in places},
    )
