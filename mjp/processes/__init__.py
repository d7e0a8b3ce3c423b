"""Forward descriptions of processes, one file per family."""

from mjp.processes.markov_chain import MarkovChain as MarkovChain
from mjp.processes.markov_jump import MarkovJump as MarkovJump
from mjp.processes.process import Process as Process
from mjp.processes.sparse_markov_jump import SparseMarkovJump as SparseMarkovJump
