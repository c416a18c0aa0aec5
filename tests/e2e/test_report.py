"""The report's page: whole, self-contained, and there even when a month failed."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from flights import baselines, features, report

from mxpipe import viz
from mxpipe.data import write_snapshot
from mxpipe.train import evaluation
from mxpipe.train.gate import decide

VOID = {"meta", "col", "br"}


class Page(HTMLParser):
    """Checks that tags are balanced, and collects text and attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.attributes, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def make_month(folder, name, seed, champion):
    """A month's record as its stages leave it, with the files it points to."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=3000)
    labels = (random.random(3000) < 1 / (1 + np.exp(1 - signal))).astype(int)

    def scores(noise):
        return 1 / (1 + np.exp(1 - signal - noise * random.normal(size=3000)))

    models = {"candidate": scores(0.5)} | ({"champion": scores(3.0)} if champion else {})
    slices = {"origin": np.where(np.arange(3000) % 3, "JFK", "<EWR>")}
    whole = {role: evaluation.evaluate(labels, given, slices).to_json() for role, given in models.items()}
    comparison = None
    if champion:
        comparison = evaluation.paired_bootstrap(labels, *models.values(), samples=100).to_json()
    (folder / f"{name}.json").write_text(json.dumps(whole))
    np.savez(folder / f"{name}.npz", labels=labels, groups=np.arange(3000) // 8, **models)
    weak = {"logistic_regression": scores(2.0), "hist_gradient_boosting": scores(2.0)}
    np.savez(folder / f"{name}-baselines.npz", labels=labels, **weak)
    lines = [{"event": "step", "step": step, "loss": 1 / step} for step in range(1, 51)]
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    judged = {role: value["metrics"] for role, value in whole.items()}
    verdict = decide(judged["candidate"], judged.get("champion"), comparison)
    return {
        "partition": name,
        "stages": {
            "resolve_champion": {"version": "1" if champion else None, "seconds": 0.1},
            "ingest": {"notes": {"flights": 27004, "cancelled": 521, "diverted": 85}, "seconds": 9.0},
            "validate": {
                "ok": True,
                "checks": 12,
                "warnings": ["column 'temp': drift"] if champion else [],
                "drift": {"temp": 0.4, "distance": 0.01} if champion else {},
                "seconds": 0.2,
            },
            "split": {"train_rows": 20000, "holdout_rows": 3000, "train_digest": "ab" * 32, "seconds": 0.3},
            "train": {
                "events": str(folder / f"{name}.jsonl"),
                "steps": 50,
                "seconds": 1.0,
                "rows_per_second": 50000.0,
                "metrics": {"train_loss": 0.5},
                "attempt": 1,
            },
            "baselines": {
                "models": {
                    key: evaluation.evaluate(labels, value).to_json()["metrics"]
                    for key, value in weak.items()
                },
                "predictions_uri": str(folder / f"{name}-baselines.npz"),
            },
            "evaluate": {
                **judged,
                "champion": judged.get("champion"),
                "comparison": comparison,
                "report_uri": str(folder / f"{name}.json"),
                "predictions_uri": str(folder / f"{name}.npz"),
            },
            "gate": verdict.to_json(),
            "register": {"version": "2" if champion else "1", "created": True},
            "promote": {"version": "2" if champion else "1"},
        },
    }


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("months")
    return [make_month(folder, "2013-01", 0, False), make_month(folder, "2013-02", 1, True)]


def test_the_page_tells_what_was_decided_and_why(records, tmp_path):
    report.write_report(records, tmp_path / "reports" / "page.html")
    page = Page((tmp_path / "reports" / "page.html").read_text())
    assert "There is no champion yet" in page.text
    assert "Better beyond chance: auc" in page.text
    assert "version 2" in page.text
    for metric in ("AUC", "Log loss", "Calibration error"):
        assert metric in page.text
    best = max(records[1]["stages"]["evaluate"][role]["auc"] for role in ("candidate", "champion"))
    assert f"{best:.4f}" in page.text
    assert page.tags.count("svg") == 1 + 2 + 1 + 1  # AUC by month, calibration, loss curves, drift


def test_the_page_needs_nothing_but_itself(records, tmp_path):
    report.write_report(records, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    references = [value for name, value in page.attributes if name.split(":")[-1] in ("href", "src")]
    assert all(value.startswith("#") for value in references)
    assert "url(http" not in text
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value.removeprefix("#") for value in references} <= set(ids)


def test_the_same_months_give_the_same_bytes_and_values_are_escaped(records, tmp_path):
    for name in ("first", "second"):
        report.write_report(records, tmp_path / name)
    text = (tmp_path / "first").read_bytes()
    assert text == (tmp_path / "second").read_bytes()
    assert b"&lt;EWR&gt;" in text
    assert b"<EWR>" not in text
    assert (
        list(tmp_path.iterdir()) == [tmp_path / "first", tmp_path / "second"]
        or len(list(tmp_path.iterdir())) == 2
    )


@pytest.mark.parametrize("lost", ["ingest", "validate", "train", "baselines", "evaluate", "gate", "register"])
def test_a_month_without_a_stage_still_has_its_page(records, tmp_path, lost):
    broken = json.loads(json.dumps(records))
    names = list(broken[1]["stages"])
    for name in names[names.index(lost) :]:
        broken[1]["stages"][name] = None
    report.write_report(broken, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    assert "2013-02" in page.text
    if lost != "register":
        assert "A stage failed before the gate was reached" in page.text


def test_files_that_are_gone_leave_a_page(records, tmp_path):
    gone = json.loads(json.dumps(records).replace(".npz", ".lost").replace(".jsonl", ".lost"))
    report.write_report(gone, tmp_path / "page.html")
    assert "Decisions" in Page((tmp_path / "page.html").read_text()).text
    report.write_report([{"partition": "2013-01", "stages": {}}], tmp_path / "page.html")
    assert "FAILED" in Page((tmp_path / "page.html").read_text()).text


def test_the_mean_gain_is_over_months_and_its_interval_is_narrower(records):
    months = [report.Month(record) for record in records]
    gain = report.mean_gain(months, "logistic_regression")
    single = report.mean_gain(months[:1], "logistic_regression")
    assert gain.low < gain.value < gain.high
    assert gain.high - gain.low < single.high - single.low
    values = [
        month.metrics("candidate")["auc"] - month.metrics("logistic_regression")["auc"] for month in months
    ]
    assert gain.value == pytest.approx(np.mean(values))


def test_plots_have_names_and_colours_that_a_page_can_change():
    figure = viz.drift({"<a & b>": 0.5, "c": 0.1}, threshold=0.2)
    text = viz.to_svg(figure, 'Drift of "everything"')
    assert text == viz.to_svg(figure, 'Drift of "everything"')
    assert text.startswith('<svg role="img" aria-label="Drift of &quot;everything&quot;"')
    assert "var(--viz-alarm, #c2343c)" in text
    assert "&lt;a &amp; b&gt;" in text
    assert not set(re.findall(r"#[0-9a-f]{6}", re.sub(r"var\([^)]*\)|url\([^)]*\)", "", text)))
    assert viz.to_png(figure).startswith(b"\x89PNG")


# ----------------------------------------------------------------------------------- features and baselines


def make_flights(rows, seed):
    """Rows with all columns of the features; late by carrier and hour."""
    random = np.random.default_rng(seed)
    columns = {name: random.normal(size=rows) for name in features.NUMERIC}
    for name in features.CATEGORICAL:
        columns[name] = random.choice(["a", "b", "c"], size=rows).tolist()
    chance = 1 / (1 + np.exp(1 - columns["departure_sin1"] - (np.asarray(columns["carrier"]) == "a")))
    columns[features.LABEL] = (random.random(rows) < chance).astype(np.int32)
    columns["departure_sin1"][::7] = np.nan
    return columns


def test_the_baselines_learn_and_are_found_again(tmp_path):
    uris = []
    for name, rows in (("train", 3000), ("holdout", 1000)):
        uris.append(str(tmp_path / name))
        write_snapshot(uris[-1], make_flights(rows, len(uris)))
    first = baselines.run_baselines(*uris)
    assert json.loads(json.dumps(first)) == first
    with np.load(first["predictions_uri"]) as scores:
        for name, metrics in first["models"].items():
            assert metrics["auc"] > 0.65
            assert evaluation.auc(scores["labels"], scores[name]) == metrics["auc"]
    assert baselines.run_baselines(*uris) == first  # with its seconds: nothing was trained again
    assert not [path for path in tmp_path.iterdir() if path.suffix not in ("", ".json", ".npz")]


def test_every_feature_has_one_role_and_an_expectation():
    names = [*features.NUMERIC, *features.CATEGORICAL, features.LABEL]
    assert len(names) == len(set(names))
    assert set(features.EXPECTATIONS["columns"]) == set(names)
    assert set(features.DERIVED) <= set(names)


def test_the_training_is_a_valid_specification():
    from mxpipe.train import TrainSpec

    spec = TrainSpec.from_json(features.training("{{ a template }}"))
    assert spec.data.train == "{{ a template }}"
    assert TrainSpec.from_json(spec.to_json()) == spec
