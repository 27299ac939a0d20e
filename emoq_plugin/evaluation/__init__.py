"""Speech emotion recognition on units: the probe, metrics, intervals, results."""
