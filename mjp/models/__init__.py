"""Ready models on real data: the model function, its priors, and a loader of its data, one file each."""

from mjp.models import anole_sizes as anole_sizes
from mjp.models import anoles as anoles
from mjp.models import cav as cav
from mjp.models import earthquakes as earthquakes
from mjp.models import hagelloch as hagelloch
from mjp.models import heston as heston
from mjp.models import influenza as influenza
from mjp.models import ion_channel as ion_channel
from mjp.models import lasers as lasers
from mjp.models import lynx_hare as lynx_hare
from mjp.models import lynx_hare_counts as lynx_hare_counts
from mjp.models import neuron as neuron
from mjp.models import nile as nile
from mjp.models import psor as psor
from mjp.models import regimes as regimes
from mjp.models import sp500 as sp500
from mjp.models.maximum_likelihood import Maximum as Maximum
from mjp.models.maximum_likelihood import maximise as maximise
from mjp.models.registry import MODELS as MODELS
from mjp.models.registry import Model as Model
from mjp.models.registry import Reported as Reported
from mjp.models.registry import get as get
