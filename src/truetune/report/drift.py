"""Does the drift on the task's own prompts tell what is lost? One dot a run."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from truetune.report.charts import Point, scatter_chart
from truetune.report.sweeps import RecordedRun, distinct, named, varied
from truetune.scoring.estimates import Estimate, bootstrap

FEWEST_RUNS = 6


def drift_chart(runs: Sequence[RecordedRun]) -> tuple[Markup, Estimate | None]:
    """A chart of the share lost over KL(base || tuned) on task prompts, and the rank correlation of the two over runs.

    Shenfeld et al. (2025, RL's Razor) find that this drift predicts forgetting whatever the method. Without enough runs
    that recorded both there is nothing to draw.
    """
    keys, points = varied(runs), list[Point]()
    for run in distinct(runs):
        drift, kept = run.quantity("drift"), run.quantity("kept")
        if drift and kept:
            points.append(Point(named(run, keys), drift.value, 1 - kept.value))
    if len(points) < FEWEST_RUNS:
        return Markup(), None
    chart = scatter_chart(
        "Drift and loss, one dot per run",
        points,
        x_label="KL(base‖tuned) on task prompts, nats a token",
        y_label="lost share of known facts",
        base=(0.0, 0.0),
    )
    return chart, rank_correlation([point.x for point in points], [point.y for point in points])


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Spearman's rank correlation, with the interval of a bootstrap over pairs."""
    from scipy.stats import rankdata

    def of(indices: npt.NDArray[np.intp]) -> float | None:
        ranks = [rankdata(np.array(values)[indices]) for values in (first, second)]
        if any(np.ptp(rank) == 0 for rank in ranks):  # a resample of equal values has no correlation
            return None
        return float(np.corrcoef(*ranks)[0, 1])

    return bootstrap(of, [str(n) for n in range(len(first))], np.random.default_rng(0), 1000)
