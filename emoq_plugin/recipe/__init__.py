"""What recipes run: restartable stages, studies, the report."""
