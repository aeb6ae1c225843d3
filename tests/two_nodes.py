"""A Ray cluster of two nodes on this machine; needs Ray."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any


def environment() -> dict[str, str]:
    """What processes of the cluster need, and have from the process that starts it."""
    root, before = str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": root if not before else f"{root}{os.pathsep}{before}",
        "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip


class TwoNodes:
    """A cluster of two nodes on this machine, each with room for one worker."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        # Ray also writes the address to a folder that only a cluster in the default place makes.
        Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
        small = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 78_643_200}
        self._small = small
        # Ray's own folder; a short name, since sockets lie in it.
        self._folder = tempfile.mkdtemp(prefix="ray-")
        head = {**small, "include_dashboard": False, "temp_dir": self._folder}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self._second: Any = None

    def add_second(self) -> None:
        if self._second is None:
            self._second = self._cluster.add_node(**self._small)

    def kill_second(self) -> None:
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = None

    def shutdown(self) -> None:
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)
