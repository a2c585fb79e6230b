"""Full ranking, metrics, reports and significance."""
