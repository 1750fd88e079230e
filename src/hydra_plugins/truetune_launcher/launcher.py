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

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from truetune.commands.sweep import Jobs

        self._config, self._folder = config, Path(str(config.hydra.sweep.dir))
        self._wanted = config.get("optimized_metric") or []
        self._jobs = Jobs(self._folder, self.n_jobs)
        self._known: set[str] = set()  # metrics that some run or its base has

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from truetune.commands.sweep import to_stderr
        from truetune.records.run_folder import SETTINGS

        if not (self._folder / SETTINGS).exists():  # Hydra's own sweeper writes it, and Optuna's does not
            self._folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self._config, self._folder / SETTINGS)
        self._jobs.run(job_overrides, initial_job_idx, to_stderr)
        done = self._jobs.jobs[initial_job_idx:]
        return [self._result(job) for job in done]

    def _result(self, job: Any) -> JobReturn:
        """Failures are listed and counted by us: to Hydra every job has completed, so none is dropped."""
        returned = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
        returned.return_value = self._values(job) if self._wanted and job.status == "finished" else None
        return returned

    def _values(self, job: Any) -> Any:
        """What a sweeper that searches (Optuna) is told of a run: `optimized_metric`, one or several.

        A run may lack one (it answered nothing). Raises UserError if neither it nor its base nor a run before has it.
        """
        from truetune.commands.sweep import to_stderr
        from truetune.errors import UserError
        from truetune.records.record import read_run

        run = read_run(self._folder / str(job.number))
        values = {name: found["value"] for name, found in run["final"].items() if found["value"] is not None}
        self._known |= run["final"].keys() | run["base"].keys()
        names = [self._wanted] if isinstance(self._wanted, str) else list(self._wanted)
        missing = [name for name in names if name not in values]
        if missing:
            text = f"run {job.number} has no {', '.join(missing)} to be searched by"
            if not self._known.issuperset(missing):
                raise UserError(f"{text}; optimized_metric may be {', '.join(values)}")
            to_stderr(text)
            return None
        return [values[name] for name in names] if len(names) > 1 else values[names[0]]
