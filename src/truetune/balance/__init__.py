"""Pure numbers: scoring, intervals, flips between two measurements, and the frontier of gain and loss."""
