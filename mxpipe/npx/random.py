"""Random arrays beyond NumPy's; see `mx.np.random` for the generator."""

from __future__ import annotations

from mxpipe.np.random import bernoulli

__all__ = ["bernoulli"]
