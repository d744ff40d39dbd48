"""diagnose: what somebody's Value class does wrong, and why."""
