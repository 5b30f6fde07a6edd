"""The record of a local cluster: written whole or not at all, and never trusted blindly."""

from dataclasses import replace
from pathlib import Path

import pytest

from hpcli.errors import HpcliError
from hpcli.providers.local.record import Ports, Record, read_record, write_record

RECORD = Record(
    name="it",
    nodes=("c1", "c2"),
    gpus=(8, 0),
    ports=Ports(slurmctld=1, controller=2, slurmdbd=3, slurmd=(4, 5)),
    slurm_version="22.05.8",
    accounting=False,
    agent_per_node=True,
    address="127.0.0.1",
    wrapper="",
    created=1.5,
)


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, complete=True, wrapper="/lib/x.so")])
def test_what_is_written_is_read(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "cluster.json"
    write_record(path, record)
    assert read_record(path) == record
    assert [entry.name for entry in tmp_path.iterdir()] == ["cluster.json"]


def test_all_ports() -> None:
    assert RECORD.ports.all == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"name": "it", "nod',
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'{"ports": 3, "nodes": [], "gpus": []}',
        b'{"ports": {"slurmd": 4}, "nodes": [], "gpus": []}',
        b'{"ports": {"slurmd": []}, "nodes": [], "gpus": [], "colour": "red"}',
        b"\xff\xfe{}",
    ],
)
def test_a_damaged_one_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "cluster.json"
    path.write_bytes(text)
    with pytest.raises(HpcliError, match="damaged cluster record") as caught:
        read_record(path)
    assert caught.value.subject == str(path)
    assert "hpcli cluster down" in caught.value.hint


def test_a_missing_one_is_damaged_too(tmp_path: Path) -> None:
    with pytest.raises(HpcliError, match="damaged cluster record"):
        read_record(tmp_path / "none.json")
