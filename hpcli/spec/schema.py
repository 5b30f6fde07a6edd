"""The JSON Schema of cluster.yaml, for editors."""

from hpcli.spec.model import Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXAMPLE: dict[str, object] = {
    "name": "demo",
    "compute": [
        {"name": "gpu", "count": 8, "cpus": 4, "memory": "4G", "gpus": {"type": "h100", "count": 8}, "spares": 2}
    ],
}


def json_schema() -> dict[str, object]:
    """Describe every key with its type, default, limits and meaning; rules between keys are not in it."""
    described = {key: value for key, value in Spec.model_json_schema().items() if key not in ("title", "description")}
    return {
        "$schema": DIALECT,
        "title": "hpcli cluster.yaml",
        "description": "What a cluster should be: hpcli cluster up builds it.",
        **described,
        "examples": [EXAMPLE],
    }
