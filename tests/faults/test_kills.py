"""A run that is killed anywhere, and resumed, ends as if nothing had been."""

import os
import random

import pytest
from faults.kills import survived

KILLS = 50 if os.environ.get("TRUETUNE_LONG") else 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_runs_end_in_the_same_weights_history_and_curves(tmp_path):
    good, tried, faults = survived(tmp_path, KILLS, random.Random(0))
    print(f"kills survived: {good} of {sum(tried.values())} tried ({dict(tried)})")
    assert faults == {}
    assert good >= KILLS
