"""Normalization over the batch, and over the features of a sample."""

from __future__ import annotations

from typing import Any

from mxpipe import autograd, initializer, npx
from mxpipe._native import Array, assign
from mxpipe.gluon.hybrid import HybridBlock
from mxpipe.gluon.parameter import Parameter

__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"]

_Init = str | initializer.Initializer


class BatchNorm(HybridBlock):
    """Normalizes each channel: by the batch's statistics in training, by their running averages otherwise.

    Ioffe and Szegedy 2015. The variance is the biased one, in the normalization and in the running average:
    running = momentum * running + (1 - momentum) * batch.

    Args:
        axis: Axis of the channels.
        momentum: Weight of the past in the running averages.
        epsilon: Added to the variance.
        center: Whether a learned `beta` is added.
        scale: Whether a learned `gamma` multiplies.
        use_global_stats: Normalize by the running averages in training too, and leave them as they are.
        beta_initializer: For beta (channels,).
        gamma_initializer: For gamma (channels,).
        running_mean_initializer: For running_mean (channels,).
        running_variance_initializer: For running_var (channels,).
        in_channels: Number of channels; 0 takes it from the first input.
    """

    def __init__(
        self,
        axis: int = 1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        use_global_stats: bool = False,
        beta_initializer: _Init = "zeros",
        gamma_initializer: _Init = "ones",
        running_mean_initializer: _Init = "zeros",
        running_variance_initializer: _Init = "ones",
        in_channels: int = 0,
    ) -> None:
        super().__init__()
        self._axis = axis
        self._momentum = momentum
        self._epsilon = epsilon
        self._use_global_stats = use_global_stats

        self.gamma = _per_channel(in_channels, gamma_initializer if scale else "ones", scale)
        self.beta = _per_channel(in_channels, beta_initializer if center else "zeros", center)
        self.running_mean = _per_channel(in_channels, running_mean_initializer, False)
        self.running_var = _per_channel(in_channels, running_variance_initializer, False)

    def infer_shape(self, x: Array, *args: Any) -> None:
        """Take the number of channels from x."""
        for parameter in self._reg_params.values():
            parameter.shape = (x.shape[self._axis],)

    def cast(self, dtype: Any) -> None:
        """Parameters stay in float32 for narrow types: averages need the digits."""
        super().cast("float32" if str(dtype) in ("float16", "bfloat16") else dtype)

    def forward(self, x: Array) -> Array:
        """The shape of x."""
        gamma, beta = self.gamma.data(), self.beta.data()
        running_mean, running_var = self.running_mean.data(), self.running_var.data()
        if not autograd.is_training() or self._use_global_stats:
            return npx.batch_norm(
                x,
                gamma,
                beta,
                running_mean,
                running_var,
                eps=self._epsilon,
                axis=self._axis,
                use_global_stats=True,
            )
        result, mean, variance = npx.batch_norm(
            x,
            gamma,
            beta,
            running_mean,
            running_var,
            eps=self._epsilon,
            axis=self._axis,
            output_mean_var=True,
        )
        with autograd.pause(train_mode=True):
            for running, batch in ((running_mean, mean), (running_var, variance)):
                assign(running, running * self._momentum + batch.detach() * (1.0 - self._momentum))
        return result

    def __repr__(self) -> str:
        channels = (self.gamma.shape or (0,))[0] or None
        return (
            f"BatchNorm(axis={self._axis}, eps={self._epsilon}, momentum={self._momentum}, "
            f"in_channels={channels})"
        )


class LayerNorm(HybridBlock):
    """Normalizes along one axis of each sample, then scales by `gamma` and shifts by `beta`.

    Ba, Kiros and Hinton 2016.

    Args:
        axis: Axis to normalize.
        epsilon: Added to the variance.
        center: Whether `beta` is learned (otherwise 0).
        scale: Whether `gamma` is learned (otherwise 1).
        beta_initializer: For beta (channels,).
        gamma_initializer: For gamma (channels,).
        in_channels: Length of the axis; 0 takes it from the first input.
    """

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: _Init = "zeros",
        gamma_initializer: _Init = "ones",
        in_channels: int = 0,
    ) -> None:
        super().__init__()
        self._axis = axis
        self._epsilon = epsilon
        self.gamma = _per_channel(in_channels, gamma_initializer, scale)
        self.beta = _per_channel(in_channels, beta_initializer, center)

    def infer_shape(self, x: Array, *args: Any) -> None:
        """Take the length of the axis from x."""
        self.gamma.shape = self.beta.shape = (x.shape[self._axis],)

    def forward(self, x: Array) -> Array:
        """The shape of x."""
        return npx.layer_norm(x, self.gamma.data(), self.beta.data(), axis=self._axis, eps=self._epsilon)

    def __repr__(self) -> str:
        channels = (self.gamma.shape or (0,))[0] or None
        return f"LayerNorm(axis={self._axis}, eps={self._epsilon}, in_channels={channels})"


class GroupNorm(HybridBlock):
    """Normalizes groups of channels of each sample, then scales by `gamma` and shifts by `beta`.

    Wu and He 2018. The channels are axis 1.

    Args:
        num_groups: Into how many groups the channels are cut.
        epsilon: Added to the variance.
        center: Whether `beta` is learned (otherwise 0).
        scale: Whether `gamma` is learned (otherwise 1).
        beta_initializer: For beta (channels,).
        gamma_initializer: For gamma (channels,).
        in_channels: Number of channels; 0 takes it from the first input.
    """

    def __init__(
        self,
        num_groups: int = 1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: _Init = "zeros",
        gamma_initializer: _Init = "ones",
        in_channels: int = 0,
    ) -> None:
        super().__init__()
        self._num_groups = num_groups
        self._epsilon = epsilon
        self.gamma = _per_channel(in_channels, gamma_initializer, scale)
        self.beta = _per_channel(in_channels, beta_initializer, center)

    def infer_shape(self, x: Array, *args: Any) -> None:
        """Take the number of channels from x."""
        self.gamma.shape = self.beta.shape = (x.shape[1],)

    def forward(self, x: Array) -> Array:
        """The shape of x."""
        return npx.group_norm(x, self.gamma.data(), self.beta.data(), self._num_groups, self._epsilon)

    def __repr__(self) -> str:
        channels = (self.gamma.shape or (0,))[0] or None
        return f"GroupNorm(num_groups={self._num_groups}, eps={self._epsilon}, in_channels={channels})"


class InstanceNorm(HybridBlock):
    """Normalizes each channel of each sample, then scales by `gamma` and shifts by `beta`.

    Ulyanov, Vedaldi and Lempitsky 2016.

    Args:
        axis: Axis of the channels.
        epsilon: Added to the variance.
        center: Whether `beta` is learned (otherwise 0).
        scale: Whether `gamma` is learned (otherwise 1).
        beta_initializer: For beta (channels,).
        gamma_initializer: For gamma (channels,).
        in_channels: Number of channels; 0 takes it from the first input.
    """

    def __init__(
        self,
        axis: int = 1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = False,
        beta_initializer: _Init = "zeros",
        gamma_initializer: _Init = "ones",
        in_channels: int = 0,
    ) -> None:
        super().__init__()
        self._axis = axis
        self._epsilon = epsilon
        self.gamma = _per_channel(in_channels, gamma_initializer, scale)
        self.beta = _per_channel(in_channels, beta_initializer, center)

    def infer_shape(self, x: Array, *args: Any) -> None:
        """Take the number of channels from x."""
        self.gamma.shape = self.beta.shape = (x.shape[self._axis],)

    def forward(self, x: Array) -> Array:
        """The shape of x."""
        return npx.instance_norm(x, self.gamma.data(), self.beta.data(), axis=self._axis, eps=self._epsilon)

    def __repr__(self) -> str:
        channels = (self.gamma.shape or (0,))[0] or None
        return f"InstanceNorm(axis={self._axis}, eps={self._epsilon}, in_channels={channels})"


class RMSNorm(HybridBlock):
    """Divides by the root of the mean square along one axis of each sample, then scales by `gamma`.

    Zhang and Sennrich 2019.

    Args:
        axis: Axis to normalize.
        epsilon: Added to the mean square.
        scale: Whether `gamma` is learned (otherwise 1).
        gamma_initializer: For gamma (channels,).
        in_channels: Length of the axis; 0 takes it from the first input.
    """

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-6,
        scale: bool = True,
        gamma_initializer: _Init = "ones",
        in_channels: int = 0,
    ) -> None:
        super().__init__()
        self._axis = axis
        self._epsilon = epsilon
        self.gamma = _per_channel(in_channels, gamma_initializer, scale)

    def infer_shape(self, x: Array, *args: Any) -> None:
        """Take the length of the axis from x."""
        self.gamma.shape = (x.shape[self._axis],)

    def forward(self, x: Array) -> Array:
        """The shape of x."""
        return npx.rms_norm(x, self.gamma.data(), axis=self._axis, eps=self._epsilon)

    def __repr__(self) -> str:
        channels = (self.gamma.shape or (0,))[0] or None
        return f"RMSNorm(axis={self._axis}, eps={self._epsilon}, in_channels={channels})"


def _per_channel(channels: int, init: _Init, learned: bool) -> Parameter:
    return Parameter(shape=(channels,), init=init, allow_deferred_init=True, differentiable=learned)
