"""`nodes`: the cluster's nodes, folded."""

import asyncio

import click

from hpcli.app import slurm_gateway
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Column, Output
from hpcli.services.nodes import NodesRow, list_nodes

STATE_STYLES = {"idle": "green", "mixed": "cyan", "allocated": "cyan", "completing": "cyan", "draining": "yellow"}

NODES_COLUMNS = (
    Column[NodesRow]("STATE", lambda row: row.state, style=lambda text: STATE_STYLES.get(text, "red")),
    Column[NodesRow]("NODELIST", lambda row: row.nodes, fold=True, style=lambda _: "bold"),
    Column[NodesRow]("NODES", lambda row: str(row.node_count), right=True),
    Column[NodesRow]("CPUS", lambda row: f"{row.cpus_alloc}/{row.cpus}", right=True),
    Column[NodesRow]("GPUS", lambda row: f"{row.gpus_alloc}/{row.gpus}", right=True),
    Column[NodesRow]("PARTITION", lambda row: row.partitions),
    Column[NodesRow]("REASON", lambda row: row.reason, fold=True),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("hostlist", required=False, default="")
@common_options
def nodes(options: Options, hostlist: str) -> None:
    """List nodes; those in the same state for the same reason are one line.

    CPUS and GPUS are allocated/all; * behind a state: the node does not answer. In a pipe: the same columns
    separated by tabs, without a header.

    \b
    Examples:
      hpcli nodes
      hpcli nodes 'c[1-4,7]'
      hpcli nodes --json | jq '.data[] | select(.reason != "")'
    """
    rows = asyncio.run(list_nodes(slurm_gateway(options.cluster), hostlist))
    Output(options).rows(rows, NODES_COLUMNS, empty="no nodes")
