"""Speech emotion recognition on units: the probe, metrics, intervals, results."""

# Raised when predictions, scores or measures come out otherwise; see `Stage`.
VERSION = 1
