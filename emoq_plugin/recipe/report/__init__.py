"""Report of a study or an experiment: one self-contained HTML file."""
