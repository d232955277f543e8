"""TrainingJob: plan.py and one file per policy."""

from modelyard.training.plan import make_planner, plan_job

__all__ = ["make_planner", "plan_job"]
