"""Put the champion before a door, and see that it answers as it does at home."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mxpipe_airflow.assets.mxpipe import asset_uri
from mxpipe_airflow.lineage import Data, Lineage
from mxpipe_airflow.links.mxpipe import MxpipeLink, ServerLink
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mxpipe.serve.process import ServerHandle
    from mxpipe_airflow.hooks.mxpipe import MxpipeSettings


def serve_alias(
    settings: MxpipeSettings, model_name: str, alias: str, port: int = 0, monitor: str | None = None
) -> ServerHandle:
    """See that a server on this machine serves what an alias names now; done twice it changes nothing.

    A server that runs already goes on as it was started, with or without a monitor.

    Raises:
        ServingError: It does not come up, or cannot load the version.
    """
    from mxpipe.serve import process

    place = settings.root / "server"
    place.mkdir(parents=True, exist_ok=True)
    return process.start(
        registry_model=f"{model_name}@{alias}",
        registry_options={"tracking_uri": settings.tracking_uri} if settings.tracking_uri else {},
        state_file=place / f"{model_name}.json",
        log_file=place / f"{model_name}.log",
        port=port,
        arguments=[f"--monitor={settings.root / 'monitors' / monitor}"] if monitor else [],
    )


class MxpipeDeployOperator(MxpipeOperator):
    """See that a server on this machine serves what ``name@alias`` names now.

    A running server loads the new version and swaps it in once it is warm; one that is gone is started again.
    Doing it twice changes nothing.

    Args:
        model_name: Name in the registry.
        alias: The alias to follow.
        port: Port on loopback; 0 takes a free one, and keeps it.
        monitor: Name of a monitor into which a server that is started counts what it is asked and answers.

    Returns:
        ``url, infer_url, version, digest, pid, state_file``.

    Example:
        >>> MxpipeDeployOperator(task_id="deploy", model_name="flights", port=8080).alias
        'champion'
    """

    template_fields: Sequence[str] = ("conn_id", "model_name", "alias", "port", "monitor")
    operator_extra_links = (ServerLink(),)

    def __init__(
        self,
        *,
        model_name: str,
        alias: str = "champion",
        port: int = 0,
        monitor: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.alias = alias
        self.port = port
        self.monitor = monitor

    def run_stage(self, context: Context) -> Manifest:
        """Start the server or let it reload."""
        handle = serve_alias(
            self.hook.settings, self.model_name, self.alias, int(self.port), monitor=self.monitor
        )
        self.log.info("Version %s of %s at %s", handle.version, self.model_name, handle.url)
        return {**handle.to_json(), "infer_url": handle.infer_url, "model_name": self.model_name}

    def links(self, manifest: Manifest) -> Mapping[type[MxpipeLink], str | None]:
        """The server's own description."""
        return {ServerLink: f"{manifest['url']}/v2"}

    def lineage(self, manifest: Manifest) -> Lineage:
        """What is served."""
        return Lineage([Data(asset_uri("models", self.model_name, self.alias), manifest["version"])])


class MxpipeServerCheckOperator(MxpipeOperator):
    """Ask the server over HTTP for rows of a snapshot and compare with the same model's offline predictions.

    Args:
        server: What the deploy stage returned. Templated.
        snapshot_uri: Rows to ask for. Templated.
        rows: How many, from the snapshot's start. Templated.
        tolerance: Greatest allowed difference of a prediction. Templated.

    Returns:
        ``rows, largest_difference, milliseconds`` (median of a request), ``url``, ``example`` (a request).

    Raises:
        AirflowFailException: A prediction differs: what is served is not what was judged.

    Example:
        >>> MxpipeServerCheckOperator(
        ...     task_id="check_server",
        ...     server="{{ ti.xcom_pull('deploy') }}",
        ...     snapshot_uri="{{ ti.xcom_pull('split')['holdout_uri'] }}",
        ... ).rows
        256
    """

    template_fields: Sequence[str] = ("conn_id", "server", "snapshot_uri", "rows", "tolerance")

    def __init__(
        self,
        *,
        server: Mapping[str, Any],
        snapshot_uri: str,
        rows: int = 256,
        tolerance: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.server = server
        self.snapshot_uri = snapshot_uri
        self.rows = rows
        self.tolerance = tolerance

    def run_stage(self, context: Context) -> Manifest:
        """Ask in requests of 64 rows and compare."""
        import numpy as np
        from airflow.sdk.exceptions import AirflowFailException

        from mxpipe.data import Snapshot
        from mxpipe.model import load_model
        from mxpipe_mlflow import registry

        settings = self.hook.settings
        name, version = self.server["model_name"], str(self.server["version"])
        model = load_model(registry.download(name, version, tracking_uri=settings.tracking_uri))
        names = [column.name for column in model.signature]
        table = Snapshot.open(self.snapshot_uri).to_table(names).slice(0, int(self.rows))
        columns = {column: table.column(column).to_pylist() for column in names}
        offline = np.asarray(model.predict(columns), dtype=np.float64).reshape(table.num_rows, -1)
        served, seconds = [], []
        for start in range(0, table.num_rows, 64):
            part = {column: values[start : start + 64] for column, values in columns.items()}
            began = time.perf_counter()
            served.extend(ask(f"{self.server['url']}/invocations", part))
            seconds.append(time.perf_counter() - began)
        online = np.asarray(served, dtype=np.float64).reshape(offline.shape)
        largest = float(np.max(np.abs(online - offline)))
        tolerance = float(self.tolerance)
        if not largest <= tolerance:
            raise AirflowFailException(
                f"[server {self.server['url']}] predictions of {name} version {version} must be those of the"
                f" registered model to within {tolerance:g}; they differ by {largest:g}."
            )
        self.log.info("%s rows over HTTP differ by %.2g at most from offline ones", table.num_rows, largest)
        return {
            "url": self.server["url"],
            "version": version,
            "example": {"dataframe_split": {"columns": names, "data": [[columns[c][0] for c in names]]}},
            "rows": table.num_rows,
            "largest_difference": largest,
            "milliseconds": round(1000 * float(np.median(seconds)), 3),
        }


def ask(url: str, columns: Mapping[str, Sequence[Any]], timeout: float = 30.0) -> list[Any]:
    """Predictions of a server's ``/invocations`` for raw columns.

    Raises:
        ServingError: It does not answer, or not with predictions for all rows.
    """
    import urllib.error
    import urllib.request

    from mxpipe.errors import ServingError

    names = list(columns)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    body = json.dumps({"dataframe_split": {"columns": names, "data": rows}}).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            predictions = json.loads(response.read())["predictions"]
    except urllib.error.HTTPError as error:
        raise ServingError(
            f"[server] {url} must answer 200; got {error.code}: {error.read()[:500]!r}."
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise ServingError(f"[server] {url} must answer with predictions; got {error}.") from error
    if len(predictions) != len(rows):
        raise ServingError(f"[server] {url} must answer {len(rows)} predictions; got {len(predictions)}.")
    return list(predictions)
