"""Ready models on real data: the model function, its priors, and a loader of its data, one file each."""

from mjp.models import anoles as anoles
from mjp.models import cav as cav
from mjp.models import earthquakes as earthquakes
from mjp.models import psor as psor
from mjp.models.maximum_likelihood import Maximum as Maximum
from mjp.models.maximum_likelihood import maximise as maximise
from mjp.models.registry import MODELS as MODELS
from mjp.models.registry import Model as Model
from mjp.models.registry import get as get
