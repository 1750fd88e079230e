"""The Hydra launcher behind `truetune -m`: one fresh process per job.

In one process a seed, an environment variable or a dead process group leaks from job to job, and with several
devices the ranks can train different jobs as one (Lightning #11300).
"""

# No `from __future__ import annotations`: Hydra runs this file as a module that dataclasses could not look up.
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class LauncherConfig:
    """`hydra.launcher.n_jobs`: how many jobs run at once, the cores divided among them."""

    _target_: str = "hydra_plugins.truetune_launcher.launcher.ProcessLauncher"
    n_jobs: int = 1


ConfigStore.instance().store(group="hydra/launcher", name="truetune", node=LauncherConfig, provider="truetune")


class ProcessLauncher(Launcher):
    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs
        self.metrics: set[str] = set()  # that some run or its base has

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from truetune.commands.sweep import Sweep

        task: Any = task_function  # a SweepTask
        folder = Path(str(config.hydra.sweep.dir))
        task.sweep = self.sweep = Sweep(folder, self.n_jobs, hidden=task.hidden, command=task.command)
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Failures are listed and counted by us: to Hydra every job has completed, so none is dropped."""
        from truetune.commands.sweep import to_stderr
        from truetune.records.run_folder import SETTINGS

        if not (self.sweep.folder / SETTINGS).exists():  # Hydra's own sweeper writes it, and Optuna's does not
            self.sweep.folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, self.sweep.folder / SETTINGS)
        self.sweep.run(job_overrides, initial_job_idx, to_stderr)
        names = self.config.get("optimized_metric") or []
        returned: list[JobReturn] = []
        for job in self.sweep.jobs[initial_job_idx:]:
            result = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
            result.return_value = self.values(job.number, names) if names and job.status == "finished" else None
            returned.append(result)
        return returned

    def values(self, number: int, optimized: str | Sequence[str]) -> Any:
        """What a sweeper that searches (Optuna) is told of a run: one metric, or several.

        A run may lack one (it answered nothing). Raises UserError if neither it nor its base nor a run before has it.
        """
        from truetune.commands.sweep import to_stderr
        from truetune.errors import UserError
        from truetune.records.record import read_run

        record = read_run(self.sweep.folder / str(number))
        values = {name: block["value"] for name, block in record["final"].items() if block["value"] is not None}
        self.metrics |= record["final"].keys() | record["base"].keys()
        names = [optimized] if isinstance(optimized, str) else list(optimized)
        missing = [name for name in names if name not in values]
        if missing:
            text = f"run {number} has no {', '.join(missing)} to be searched by"
            if not self.metrics.issuperset(missing):
                raise UserError(f"{text}; optimized_metric may be {', '.join(values)}")
            to_stderr(text)
            return None
        return [values[name] for name in names] if len(names) > 1 else values[names[0]]
