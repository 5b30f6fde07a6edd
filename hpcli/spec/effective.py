"""A spec as one file that needs nothing beside it: defaults filled in, named files as absolute paths."""

import yaml

from hpcli.spec.layers import DEFAULTS
from hpcli.spec.model import Spec


def effective_text(spec: Spec) -> str:
    """Write a spec so that `parse_spec` gives the same machines and settings anywhere, without files of defaults.

    Comments are gone, and `compute_defaults` is in the groups.
    """
    plain = spec.model_dump(mode="json", exclude_defaults=True, exclude={DEFAULTS})
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    pass


def _plainly(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    """Without an exponent, which a spec may not have."""
    whole, _, rest = f"{value:.10f}".partition(".")
    return dumper.represent_scalar("tag:yaml.org,2002:float", f"{whole}.{rest.rstrip('0') or '0'}")


_Dumper.add_representer(float, _plainly)
