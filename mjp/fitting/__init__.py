"""From a model to a posterior."""

from mjp.fitting.fit import fit as fit
from mjp.fitting.result import Fit as Fit
