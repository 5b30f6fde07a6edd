"""Nodes whose machines were off and are on again: Slurm keeps them down until somebody says that this was meant."""

from hpcli.domain.names import fold
from hpcli.ports import Clock, SlurmGateway

REBOOTED = "Node unexpectedly rebooted"
"""Slurm's own words (slurmctld, node_mgr.c); whoever brings a cluster up expects it."""

LIMIT = 20.0
POLL = 0.5


async def take_back(gateway: SlurmGateway, clock: Clock, limit: float = LIMIT) -> str:
    """Wait until every node has been heard of, at most `limit` seconds, and return those; says which, as a hostlist.

    A node that a person drained, or that is under repair, has another reason and stays as it is.
    """
    deadline = clock.now() + limit
    while True:
        nodes = await gateway.nodes()
        silent = [node for node in nodes if "NOT_RESPONDING" in node.states]
        if not silent or clock.now() > deadline:
            break
        await clock.sleep(POLL)
    rebooted = fold(node.name for node in nodes if node.down and not node.drain and node.reason.startswith(REBOOTED))
    if rebooted:
        await gateway.update_nodes(rebooted, "resume")
    return rebooted
