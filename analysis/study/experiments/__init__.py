"""What only arms grown for it can tell: of a prompt, of tuning back, of a swap and of a lie."""

from analysis.study.experiments.evidence import Laid, evidence
from analysis.study.experiments.plan import Plan

__all__ = ["Laid", "Plan", "evidence"]
