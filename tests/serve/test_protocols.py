"""The protocols of a running server: what it answers, and how it refuses."""

from __future__ import annotations

import copy
import csv
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest


def infer(client: httpx.Client, body: Any) -> httpx.Response:
    return client.post("/v2/models/late/infer", json=body)


def changed(body: dict[str, Any], column: str, /, **fields: Any) -> dict[str, Any]:
    """The request with some fields of one input replaced; a field set to ``...`` is left out."""
    body = copy.deepcopy(body)
    tensor = next(tensor for tensor in body["inputs"] if tensor["name"] == column)
    tensor.update(fields)
    for field in [field for field, value in tensor.items() if value is ...]:
        del tensor[field]
    return body


class TestOpenInference:
    def test_health_and_server_metadata(self, client: httpx.Client) -> None:
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.get("/v2").json()["name"] == "mxpipe"
        assert client.post("/v2/repository/index").json()[0]["state"] == "READY"

    def test_model_metadata_names_the_raw_columns(self, client: httpx.Client, server: Any) -> None:
        metadata = client.get("/v2/models/late").json()
        inputs = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in metadata["inputs"]}
        assert inputs == {"distance": ("FP64", [-1]), "hour": ("INT64", [-1]), "carrier": ("BYTES", [-1])}
        assert metadata["versions"] == [server.version]
        assert metadata["outputs"] == [{"name": "probability", "datatype": "FP32", "shape": [-1]}]
        assert client.get(f"/v2/models/late/versions/{server.version}").json() == metadata
        assert client.get(f"/v2/models/late/versions/{server.version}/ready").json()["ready"] is True

    def test_infer_gives_the_bits_of_the_model(
        self, client: httpx.Client, server: Any, infer_body: dict[str, Any], expected: Any
    ) -> None:
        response = infer(client, infer_body).json()
        assert (response["model_name"], response["model_version"]) == ("late", server.version)
        assert response["id"] == "rows-1"
        (output,) = response["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("probability", "FP32", [3])
        np.testing.assert_array_equal(np.array(output["data"], np.float32), expected)
        versioned = client.post(f"/v2/models/late/versions/{server.version}/infer", json=infer_body)
        assert versioned.json() == response

    def test_columns_of_shape_n_1_and_narrower_datatypes(
        self, client: httpx.Client, infer_body: dict[str, Any]
    ) -> None:
        plain = infer(client, infer_body).json()["outputs"]
        body = changed(infer_body, "hour", datatype="INT8", shape=[3, 1], data=[[8], [17], [22]])
        body = changed(body, "distance", datatype="FP32", shape=[3, 1])
        assert infer(client, body).json()["outputs"] == plain

    def test_an_unknown_category_is_predicted_like_a_missing_one(
        self, client: httpx.Client, infer_body: dict[str, Any]
    ) -> None:
        unseen = infer(client, changed(infer_body, "carrier", data=["XX", "YY", "ZZ"]))
        missing = infer(client, changed(infer_body, "carrier", data=[None, None, None]))
        assert unseen.status_code == 200
        assert unseen.json()["outputs"] == missing.json()["outputs"]

    @pytest.mark.parametrize(
        ("name", "fields", "text"),
        [
            (
                "hour",
                {"name": "minute"},
                "[input 'minute'] must be a column of the model (distance, hour, carrier)",
            ),
            ("hour", {"datatype": "BYTES"}, "[input 'hour'] datatype must fit INT64; got BYTES"),
            ("hour", {"datatype": "FP32"}, "[input 'hour'] datatype must fit INT64; got FP32"),
            ("carrier", {"datatype": "INT64"}, "[input 'carrier'] datatype must fit BYTES; got INT64"),
            ("hour", {"datatype": "INT7"}, "[input 'hour'] datatype must be one of"),
            ("hour", {"datatype": ...}, "[input 'hour'] datatype must be one of"),
            ("hour", {"shape": [3, 2]}, "[input 'hour'] shape must be [n] or [n, 1]; got [3, 2]"),
            ("hour", {"shape": [4]}, "[input 'hour'] data must hold 4 values, as shape says; got 3"),
            ("hour", {"shape": "3"}, "[input 'hour'] shape must be"),
            (
                "hour",
                {"shape": [2], "data": [1, 2]},
                "[column 'hour'] must be as long as the others (3 rows); got 2",
            ),
            ("hour", {"data": [1, "two", 3]}, "[column 'hour'] row 1 must be an integer or null; got 'two'"),
            ("hour", {"data": [1, 2.5, 3]}, "[column 'hour'] row 1 must be an integer or null; got 2.5"),
            ("hour", {"data": [1, True, 3]}, "[column 'hour'] row 1 must be an integer or null; got True"),
            (
                "hour",
                {"datatype": "INT8", "data": [1, 2, 300]},
                "[column 'hour'] row 2 must be within int8; got 300",
            ),
            ("hour", {"data": [1, 2, 2**63]}, "[column 'hour'] row 2 must be within int64"),
            ("distance", {"data": [1, 2, "far"]}, "[column 'distance'] row 2 must be a number or null"),
            (
                "distance",
                {"data": [1, 2, 1e300]},
                "[column 'distance'] row 2 must be a number that float32 can hold",
            ),
            (
                "distance",
                {"data": [1, 2, 10**400]},
                "[column 'distance'] row 2 must be a number that float32 can",
            ),
            (
                "carrier",
                {"data": ["UA", 7, "AA"]},
                "[column 'carrier'] row 1 must be a string or null; got 7",
            ),
            ("carrier", {"data": "UA"}, "[input 'carrier'] data must be a list"),
        ],
    )
    def test_a_tensor_that_does_not_fit_is_refused(
        self, client: httpx.Client, infer_body: dict[str, Any], name: str, fields: dict[str, Any], text: str
    ) -> None:
        response = infer(client, changed(infer_body, name, **fields))
        assert response.status_code == 400
        assert text in response.json()["error"]

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({"inputs": []}, "[inputs] must be a non-empty list"),
            ({}, "[inputs] must be a non-empty list"),
            ([1], "[request] must be a JSON object; got list"),
            (
                {"inputs": [{"name": "hour", "datatype": "INT64", "shape": [1], "data": [1]}]},
                "[column 'distance']",
            ),
            ({"inputs": [{"datatype": "INT64"}]}, "[inputs] item 0"),
        ],
    )
    def test_a_request_that_does_not_fit_is_refused(self, client: httpx.Client, body: Any, text: str) -> None:
        response = infer(client, body)
        assert response.status_code == 400
        assert text in response.json()["error"]

    def test_a_column_given_twice_and_an_unknown_output_are_refused(
        self, client: httpx.Client, infer_body: dict[str, Any]
    ) -> None:
        twice = {"inputs": [*infer_body["inputs"], infer_body["inputs"][0]]}
        assert "[input 'distance'] must be given once" in infer(client, twice).json()["error"]
        output = infer(client, {**infer_body, "outputs": [{"name": "odds"}]})
        assert output.status_code == 400
        assert "[output 'odds'] must be one of probability" in output.json()["error"]

    def test_unknown_model_version_and_route(self, client: httpx.Client, infer_body: dict[str, Any]) -> None:
        for path in ("/v2/models/early/infer", "/v2/models/late/versions/99/infer", "/v2/nowhere"):
            response = client.post(path, json=infer_body)
            assert response.status_code == 404, path
            assert set(response.json()) == {"error"}
        assert client.get("/v2/models/late/infer").status_code == 405


class TestScoring:
    def predictions(self, client: httpx.Client, **request: Any) -> np.ndarray[Any, Any]:
        response = client.post("/invocations", **request)
        assert response.status_code == 200, response.text
        return np.array(response.json()["predictions"], np.float32)

    def test_every_form_gives_the_bits_of_the_model(
        self, client: httpx.Client, trained_models: Any, expected: Any
    ) -> None:
        columns = trained_models.columns
        records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        split = {
            "columns": list(columns),
            "data": [list(row.values()) for row in records],
            "index": [7, 8, 9],
        }
        for body in (
            {"dataframe_split": split},
            {"dataframe_records": records},
            {"instances": records},
            {"inputs": records},
            {"inputs": columns},
        ):
            np.testing.assert_array_equal(self.predictions(client, json=body), expected)

    def test_csv_with_empty_cells(self, client: httpx.Client, trained_models: Any, expected: Any) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(trained_models.columns)
        writer.writerows(zip(*trained_models.columns.values(), strict=True))
        headers = {"Content-Type": "text/csv; charset=utf-8"}
        np.testing.assert_array_equal(
            self.predictions(client, content=text.getvalue(), headers=headers), expected
        )

    def test_further_columns_are_ignored_as_in_mlflow(
        self, client: httpx.Client, trained_models: Any, expected: Any
    ) -> None:
        inputs = {**trained_models.columns, "tail_number": ["N1", "N2", "N3"]}
        np.testing.assert_array_equal(self.predictions(client, json={"inputs": inputs}), expected)

    def test_health(self, client: httpx.Client) -> None:
        assert client.get("/ping").status_code == client.get("/health").status_code == 200
        assert client.get("/version").text

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({"rows": []}, "[request] must hold exactly one of dataframe_split"),
            ({"inputs": {}, "instances": []}, "[request] must hold exactly one of"),
            ({"inputs": {"distance": [1.0], "hour": [1]}}, "[column 'carrier'] must be present"),
            ({"inputs": {"distance": 1.0}}, "[inputs.distance] must be a list"),
            ({"instances": [{"distance": 1.0, "hour": 2, "carrier": "UA"}, {"hour": 2}]}, "row 1 lacks it"),
            ({"instances": []}, "[column 'distance'] must be present"),
            ({"inputs": {"distance": [], "hour": [], "carrier": []}}, "[rows] at least one row"),
            ({"dataframe_split": {"columns": ["hour", "hour"], "data": []}}, "name each column once"),
            ({"dataframe_split": {"columns": ["hour"], "data": [[1, 2]]}}, "row 0 must hold 1 values"),
            ({"dataframe_records": "x"}, "[dataframe_records] must be a list of objects"),
            ({"inputs": {}, "params": {"threshold": 1}}, "[params] must be empty"),
        ],
    )
    def test_json_that_does_not_fit_is_refused(self, client: httpx.Client, body: Any, text: str) -> None:
        response = client.post("/invocations", json=body)
        assert response.status_code == 400
        assert text in response.json()["error"]

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("", "[csv] must start with a header line"),
            ("distance,hour,carrier\n1,2\n", "[csv] row 0 must hold 3 cells; got 2"),
            ("distance,hour,carrier\n1,noon,UA\n", "[column 'hour'] row 0 must be int64; got 'noon'"),
            (
                "distance,hour,carrier\n1,2.5,UA\n",
                "[column 'hour'] row 0 must be an integer or null; got 2.5",
            ),
            ("distance,hour\n1,2\n", "[column 'carrier'] must be present"),
            ("hour,hour\n1,2\n", "[csv] the header must name each column once"),
        ],
    )
    def test_csv_that_does_not_fit_is_refused(self, client: httpx.Client, text: str, error: str) -> None:
        response = client.post("/invocations", content=text, headers={"Content-Type": "text/csv"})
        assert response.status_code == 400
        assert error in response.json()["error"]


class TestBodies:
    @pytest.mark.parametrize("path", ["/invocations", "/v2/models/late/infer"])
    @pytest.mark.parametrize(
        "content",
        [
            b"{",
            b"",
            b"\xff\xfe",
            b"[" * 10_000,
            b'{"inputs": ' + b"9" * 9_000 + b"}",
        ],
        ids=["torn", "empty", "not UTF-8", "deeply nested", "a number of 9000 digits"],
    )
    def test_what_is_not_json_is_refused(self, client: httpx.Client, path: str, content: bytes) -> None:
        response = client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 400
        assert "[body]" in response.json()["error"]

    @pytest.mark.parametrize("path", ["/invocations", "/v2/models/late/infer"])
    def test_too_large_a_body_is_refused(self, client: httpx.Client, path: str) -> None:
        body = json.dumps({"inputs": ["x" * 30_000]}).encode()
        headers = {"Content-Type": "application/json"}
        declared = client.post(path, content=body, headers=headers)
        streamed = client.post(
            path, content=(body[i : i + 8192] for i in range(0, len(body), 8192)), headers=headers
        )
        for response in (declared, streamed):
            assert response.status_code == 413
            assert "[body] must be at most 20000 bytes" in response.json()["error"]

    def test_content_types_that_are_not_spoken(
        self, client: httpx.Client, infer_body: dict[str, Any]
    ) -> None:
        assert (
            client.post("/invocations", content=b"x", headers={"Content-Type": "text/html"}).status_code
            == 415
        )
        assert client.post("/invocations", content=b"x").status_code == 415
        binary = {"Inference-Header-Content-Length": "10", "Content-Type": "application/octet-stream"}
        assert client.post("/v2/models/late/infer", content=b"x", headers=binary).status_code == 415
        packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        assert client.post("/invocations", content=b"x", headers=packed).status_code == 415

    def test_the_server_counts_what_it_answered(
        self, client: httpx.Client, infer_body: dict[str, Any]
    ) -> None:
        infer(client, infer_body)
        infer(client, {})
        lines = client.get("/metrics").text.splitlines()
        counts = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        assert int(counts['mxpipe_requests_total{endpoint="infer",status="200"}']) >= 1
        assert int(counts['mxpipe_requests_total{endpoint="infer",status="400"}']) >= 1
        assert (
            counts['mxpipe_request_seconds_bucket{endpoint="infer",le="+Inf"}']
            == (counts['mxpipe_request_seconds_count{endpoint="infer"}'])
        )
        assert not any('status="500"' in name for name in counts)
