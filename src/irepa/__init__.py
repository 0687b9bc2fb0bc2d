"""Replication of "What Matters for Representation Alignment?" (arXiv 2512.10794): REPA, iREPA and the spatial metrics.

The parts that are useful on their own live in :mod:`irepa.alignment`, :mod:`irepa.projectors`, :mod:`irepa.spatial` and
:mod:`irepa.models.sit`.
"""

__version__ = "0.1.0"
