"""The gateway contract over a real pyslurm; needs one installed, and Slurm's daemons. tests/docker/test_pyslurm.py
runs it. Not collected by its name, so that nothing is skipped where there is no pyslurm.
"""

from pyslurm_clusters import cluster
from test_slurm_gateway import TestJobs, TestNodeLoss, TestNodes

__all__ = ["TestJobs", "TestNodeLoss", "TestNodes", "cluster"]
