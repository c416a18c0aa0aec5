"""JAX (XLA on the CPU) as a peer: one jitted step that gives its buffers away; threads follow affinity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.jax_models import Arrays, Mode, forward, layer_norm, load, recommender
from benchmarks.models import RECOMMENDER
from benchmarks.workloads import CSR_COLUMNS, CSR_ROWS


def setup(threads: int) -> None:
    """XLA sizes its pool by the affinity of the process, which the runner sets."""


def versions() -> dict[str, str]:
    """Of everything that computes."""
    return {"jax": jax.__version__}


def sync(value: Any) -> None:
    """Calls return before they are done."""
    jax.block_until_ready(value)


def to_numpy(value: Any) -> np.ndarray:
    """In host memory, float32."""
    return np.asarray(value, dtype=np.float32)


def _mode(dtype: str, training: bool) -> Mode:
    return Mode(jnp.bfloat16 if dtype == "bf16" else jnp.float32, training)


def _placed(array: np.ndarray) -> Any:
    """Images channels-last, ids int32."""
    if array.ndim == 4:
        array = array.transpose(0, 2, 3, 1)
    return jnp.array(array.astype(np.int32) if array.dtype == np.int64 else array)


def _loss(kind: str, output: Any, label: Any) -> Any:
    output = output.astype(jnp.float32)
    if kind == "bce":
        return jnp.mean(jnp.maximum(output, 0) - output * label + jnp.log1p(jnp.exp(-jnp.abs(output))))
    if kind == "mse":
        return jnp.mean(jnp.square(output - label))
    chosen = jnp.take_along_axis(output, label[:, None], -1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(output, -1) - chosen)


def _update(opt: tuple[str, dict[str, float]], weight: Any, gradient: Any, state: Any, count: Any) -> Any:
    """New weight and states, by PyTorch's definitions."""
    name, given = opt
    if name == "sgd":
        momentum = given["momentum"] * state[0] + gradient
        return weight - given["lr"] * momentum, (momentum,)
    if name == "adagrad":
        history = state[0] + gradient * gradient
        return weight - given["lr"] * gradient / (jnp.sqrt(history) + given["eps"]), (history,)
    first = given["b1"] * state[0] + (1 - given["b1"]) * gradient
    second = given["b2"] * state[1] + (1 - given["b2"]) * gradient * gradient
    scale = jnp.sqrt(second / (1 - given["b2"] ** count)) + given["eps"]
    decayed = weight * (1 - given["lr"] * given.get("wd", 0.0))
    return decayed - given["lr"] / (1 - given["b1"] ** count) * first / scale, (first, second)


def _update_rows(given: dict[str, float], table: Any, history: Any, ids: Any, gradient: Any) -> Any:
    """Adagrad for the rows that a batch named: gradients of a row are summed before they are squared."""
    order = jnp.argsort(ids)
    ids = ids[order]
    first = jnp.concatenate([jnp.ones(1, bool), ids[1:] != ids[:-1]])
    gradient = jax.ops.segment_sum(gradient[order], jnp.cumsum(first) - 1, len(ids), indices_are_sorted=True)
    rows = jnp.sort(jnp.where(first, ids, table.shape[0]))  # those out of range are dropped
    new = history.at[rows].get(mode="fill", fill_value=1.0) + gradient * gradient
    change = -given["lr"] * gradient / (jnp.sqrt(new) + given["eps"])
    options = {"mode": "drop", "indices_are_sorted": True}
    return table.at[rows].add(change, **options), history.at[rows].set(new, **options)


def train(workload: Any, dtype: str) -> Callable[[int], Any]:
    """One step over staged batches; returns the mean loss."""
    weights = load(workload.params())
    statistics = {name: weights.pop(name) for name in list(weights) if "running" in name}
    opt, sparse = workload.opt, workload.model == "dlrm"
    table = weights.pop("emb").reshape(-1, RECOMMENDER.dim) if sparse else jnp.zeros(1)
    start = opt[1].get("init", 0.0)
    states = 2 if opt[0].startswith("adam") else 1

    def fresh(weight: Any) -> tuple[Any, ...]:
        return tuple(jnp.full_like(weight, start) for _ in range(states))

    carry: Any = (
        weights,
        {name: fresh(weight) for name, weight in weights.items()},
        statistics,
        (table, jnp.full_like(table, start)),
        jnp.zeros(()),
    )
    shift = jnp.arange(RECOMMENDER.tables) * RECOMMENDER.rows

    def step(weights: Arrays, states: Arrays, statistics: Arrays, rows: Any, count: Any, *batch: Any) -> Any:
        count, (table, history) = count + 1, rows
        ids = batch[1] + shift if sparse else None
        gathered = table[ids] if sparse else None

        def loss_of(weights: Arrays, gathered: Any) -> Any:
            mode = _mode(dtype, True)
            if sparse:
                output = recommender(weights, batch[0], gathered, mode)
            else:
                output = forward(weights | statistics, workload.model, batch[0], mode)
            return _loss(workload.loss, output, batch[-1]), mode.statistics

        (loss, new_statistics), (gradients, of_rows) = jax.value_and_grad(loss_of, (0, 1), has_aux=True)(
            weights, gathered
        )
        updated = {
            name: _update(opt, weights[name], gradients[name], states[name], count) for name in weights
        }
        if sparse:
            flat = of_rows.reshape(-1, RECOMMENDER.dim)
            table, history = _update_rows(opt[1], table, history, ids.ravel(), flat)
        new_weights = {name: weight for name, (weight, _) in updated.items()}
        new_states = {name: state for name, (_, state) in updated.items()}
        return loss, (new_weights, new_states, new_statistics, (table, history), count)

    jitted = jax.jit(step, donate_argnums=(0, 1, 2, 3, 4))
    batches = [tuple(map(_placed, workload.batch_data(index))) for index in range(workload.nbatch)]

    def call(index: int) -> Any:
        nonlocal carry
        loss, carry = jitted(*carry, *batches[index % len(batches)])
        return loss

    return call


def infer(workload: Any, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """NumPy in, NumPy out; weights are bf16 where the work is, but not those of norms."""
    weights = load(workload.params())
    if dtype == "bf16":
        norms = ("bn", "ln")
        weights = {
            name: value if any(one in name for one in norms) else value.astype(jnp.bfloat16)
            for name, value in weights.items()
        }

    def program(weights: Arrays, x: Any) -> Any:
        x = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
        return forward(weights, workload.model, x, _mode(dtype, False)).astype(jnp.float32)

    if workload.model == "mlp":  # small weights as constants: less to hand over at each call
        jitted = jax.jit(lambda x: program(weights, x))
    else:
        compiled = jax.jit(program)
        jitted = lambda x: compiled(weights, x)  # noqa: E731
    return lambda x: np.asarray(jitted(x if x.dtype == np.float32 else x.astype(np.int32)))


def micro(workload: Any, dtype: str) -> Callable[[int], Any]:
    """Single expressions over staged inputs."""
    arrays = [_placed(array) for array in workload.batch_data()]
    if workload.model == "spmm":
        from jax.experimental import sparse

        starts, columns, values, right = arrays
        matrix = sparse.BCSR((values, columns, starts), shape=(CSR_ROWS, CSR_COLUMNS))
        product = jax.jit(lambda a, b: a @ b)
        return lambda index=0: product(matrix, right)
    if workload.model == "add":
        return lambda index=0: jnp.add(*arrays)
    if workload.model == "matmul":
        left, right = (one.astype(jnp.bfloat16) if dtype == "bf16" else one for one in arrays)
        product = jax.jit(jnp.matmul)
        return lambda index=0: product(left, right)
    return _expression(workload.model, arrays)


def _expression(model: str, arrays: list[Any]) -> Callable[[int], Any]:
    if model == "xent":
        logits, labels = arrays
        both = jax.jit(jax.value_and_grad(lambda x: _loss("ce", x, labels)))
        return lambda index=0: both(logits)

    def fused(a: Any, b: Any, c: Any, d: Any) -> Any:
        return jax.nn.gelu(a * b + c, approximate=False) * jax.nn.sigmoid(d)

    if model == "fused":
        jitted = jax.jit(fused)
        return lambda index=0: jitted(*arrays)
    *inputs, upstream = arrays
    function = fused if model == "fused_grad" else lambda x, g, b: layer_norm(x, g, b, Mode(), 1e-5)

    @jax.jit
    def both_ways(upstream: Any, *inputs: Any) -> Any:
        output, back = jax.vjp(function, *inputs)
        return output, *back(upstream)

    return lambda index=0: both_ways(upstream, *inputs)
