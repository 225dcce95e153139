"""The posterior predictive distribution: masks of its passes, their execution, and the resulting prediction."""

from lit_scaledrop.posterior.diagnosis import Diagnosis, diagnose
from lit_scaledrop.posterior.evaluation import Evaluation, build_posterior
from lit_scaledrop.posterior.plans import draw_plan, enumerate_plan
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.posterior.variation import Variation

__all__ = [
    "Diagnosis",
    "Evaluation",
    "PosteriorPredictive",
    "Predictive",
    "Variation",
    "build_posterior",
    "diagnose",
    "draw_plan",
    "enumerate_plan",
]
