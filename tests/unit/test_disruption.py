"""tests/cases/plan/disruption.yaml: what each parameter costs on each Slurm, with where that is written."""

from pathlib import Path

import pytest
import yaml

from hpcli.domain import disruption
from hpcli.domain.change import Disruption

TABLE = yaml.safe_load((Path(__file__).parent.parent / "cases" / "plan" / "disruption.yaml").read_text())
ROWS = [(name, series, words) for name, costs in TABLE.items() for series, words in costs.items()]


def version(series: str) -> tuple[int, int]:
    year, month = series.split(".")
    return int(year), int(month)


@pytest.mark.parametrize(("name", "series", "words"), ROWS)
def test_a_changed_parameter(name: str, series: str, words: str) -> None:
    cost = disruption.of_parameter(name, version(series))
    assert cost == disruption.of_parameter(name.upper(), version(series))
    assert cost.disruption.words == words
    assert bool(cost.why) == (cost.disruption >= Disruption.RESTART), "it says why"


@pytest.mark.parametrize(
    ("series", "cost"),
    [("22.05", Disruption.RESTART), ("23.02", Disruption.RESTART), ("23.11", Disruption.RECONFIGURE)],
)
def test_new_nodes(series: str, cost: Disruption) -> None:
    assert disruption.of_new_nodes(version(series)).disruption is cost


def test_the_words_for_2205_are_those_that_people_read() -> None:
    why = disruption.of_new_nodes((22, 5)).why
    assert why == "Slurm 22.05 learns of new nodes only by a restart of all daemons; running jobs live on"


@pytest.mark.parametrize("key", ["CPUs", "RealMemory", "Gres", "Sockets", "NodeAddr", "Port"])
def test_what_a_node_must_be_empty_for(key: str) -> None:
    assert disruption.of_node_value(key).disruption is Disruption.DRAIN


@pytest.mark.parametrize("key", ["Weight", "Feature", "State", "Reason"])
def test_what_a_node_takes_while_it_works(key: str) -> None:
    assert disruption.of_node_value(key).disruption is Disruption.RECONFIGURE
