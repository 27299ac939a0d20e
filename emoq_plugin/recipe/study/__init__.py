"""Analysis of what units keep of emotion, and its report."""
