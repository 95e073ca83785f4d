"""While the model runs: recorder (accepted tokens to streams), guard (verdicts to actions)."""
