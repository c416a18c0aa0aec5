"""Give a new version a share of the traffic, watch it, and take the share away again unless all is well."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mxpipe_airflow.keys import digest_json
from mxpipe_airflow.links.mxpipe import MxpipeLink, ServerLink
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

LEAST_LEASE_SECONDS = 30.0


class MxpipeCanaryOperator(MxpipeOperator):
    """Let a version answer a share of a server's requests until a sample says whether it does well.

    The share is leased from the server and renewed while this task watches. Whatever ends the watching - a
    version that fails, a timeout, the task's end by hand, the worker's death - the split before comes back:
    by this task where it still can, else by the server when the lease runs out. A version that has passed
    keeps its share.

    The key is (endpoint, version, step): a step that has passed, and whose split is still in force, passes at
    once when it is repeated. A retry goes on with the measures of the attempt before.

    Args:
        server: What the deploy stage returned: ``url`` and ``model_name``. Templated.
        version: The version to try, as the server's source names it. Templated.
        share: Its share of the rows, from 0 to 1. Templated.
        step: Name of the step, where the share grows in steps. Templated.
        policy: See :class:`mxpipe.serve.canary.CanaryPolicy`, as JSON. Templated.
        on_pass: ``keep`` the share, or ``restore`` the split before. Templated.
        timeout: The sample must have come together in this time.
        poll_interval: Seconds between two looks.

    Returns:
        ``key, step, version, share, passed, reused, measured`` (figures of both versions), ``before`` (the
        split that was there), ``url``.

    Raises:
        AirflowFailException: The version does not hold to the policy. The split before is back.
        ServingError: The server does not answer, or the sample did not come together in time.

    Example:
        >>> MxpipeCanaryOperator(
        ...     task_id="canary",
        ...     server="{{ ti.xcom_pull('deploy') }}",
        ...     version="{{ ti.xcom_pull('register')['version'] }}",
        ...     share=0.1,
        ... ).on_pass
        'keep'
    """

    template_fields: Sequence[str] = ("conn_id", "server", "version", "share", "step", "policy", "on_pass")
    operator_extra_links = (ServerLink(),)

    def __init__(
        self,
        *,
        server: Mapping[str, Any],
        version: str,
        share: float = 0.1,
        step: str = "canary",
        policy: Mapping[str, Any] | None = None,
        on_pass: str = "keep",
        timeout: timedelta = timedelta(hours=1),
        poll_interval: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.server = server
        self.version = version
        self.share = share
        self.step = step
        self.policy = policy
        self.on_pass = on_pass
        self.timeout = timeout
        self.poll_interval = poll_interval
        self._restore: tuple[str, str, Mapping[str, Any]] | None = None
        self._killed = False

    def run_stage(self, context: Context) -> Manifest:
        """Set the share, watch, then keep it or put back what was there."""
        from mxpipe.errors import GateRejectedError, SpecificationError
        from mxpipe.serve import client
        from mxpipe.serve.canary import CanaryPolicy, judge_canary

        if self.on_pass not in ("keep", "restore"):
            raise SpecificationError(f"[canary] on_pass must be keep or restore; got {self.on_pass!r}.")
        policy = CanaryPolicy.from_json(self.policy or {})
        url, model, version = str(self.server["url"]), str(self.server["model_name"]), str(self.version)
        report = client.read_split(url, model)
        # What was there before this step, and not what a killed attempt of it has left.
        before = report["before"] if report["before"] is not None else report["split"]
        wanted = {**before, "canary": version, "share": float(self.share)}
        manifest = {
            "key": digest_json([url, model, version, str(self.step)]),
            "step": str(self.step),
            "version": version,
            "share": float(self.share),
            "before": before,
            "url": url,
        }
        if report["split"] == wanted and report["before"] is None:
            self.log.info("Version %s has its share of %g already", version, wanted["share"])
            measured = judge_canary(report, version, policy).measured
            return {**manifest, "passed": True, "reused": True, "measured": measured}
        self._restore = url, model, before
        try:
            verdict = self._watch(url, model, wanted, version, policy)
            if verdict.failures:
                reasons = "; ".join(verdict.failures)
                raise GateRejectedError(
                    f"[canary {model} version {version}] it must hold to its policy; {reasons}."
                )
            client.write_split(url, model, wanted if self.on_pass == "keep" else before)
        except BaseException:
            self._put_back()
            raise
        finally:
            self._restore = None
        self.log.info("Version %s has passed: %s", version, verdict.measured)
        return {**manifest, "passed": True, "reused": False, "measured": verdict.measured}

    def _watch(self, url: str, model: str, wanted: Mapping[str, Any], version: str, policy: Any) -> Any:
        """Renew the lease and look, until the verdict is clear."""
        from mxpipe.errors import ServingError
        from mxpipe.serve import client
        from mxpipe.serve.canary import judge_canary

        lease = max(LEAST_LEASE_SECONDS, 5 * self.poll_interval)
        deadline = time.monotonic() + self.timeout.total_seconds()
        while not self._killed:
            client.write_split(url, model, {**wanted, "lease_seconds": lease})
            verdict = judge_canary(client.read_split(url, model), version, policy)
            if verdict.failures or verdict.passed:
                return verdict
            if time.monotonic() >= deadline:
                raise ServingError(
                    f"[canary {model} version {version}] {policy.minimum_rows} rows in"
                    f" {policy.minimum_requests} requests must have come within {self.timeout}; got"
                    f" {verdict.measured['canary']['rows']} in {verdict.measured['canary']['requests']}."
                )
            time.sleep(self.poll_interval)
        raise ServingError(f"[canary {model} version {version}] it was ended; the split before is back.")

    def on_kill(self) -> None:
        """Put back the split that was there. Called from a signal handler: it must not log."""
        self._killed = True
        self._put_back()

    def _put_back(self) -> None:
        """Put back the split before, as well as can be: where the server is away, its lease runs out."""
        from mxpipe.errors import MxpipeError
        from mxpipe.serve import client

        restore, self._restore = self._restore, None
        if restore is not None:
            url, model, before = restore
            try:
                client.write_split(url, model, before, timeout=10.0)
            except MxpipeError:
                return

    def links(self, manifest: Manifest) -> Mapping[type[MxpipeLink], str | None]:
        """The server."""
        return {ServerLink: manifest["url"]}
