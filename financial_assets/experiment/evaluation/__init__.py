"""What the report and the checks show: skill, comparison, profit, risk, leaks."""
