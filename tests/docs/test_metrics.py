"""Whoever asks for metrics, in docs, alerts or the dashboard, asks for what a real page has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.api.metrics import FAMILIES
from app.runtime.metrics import STAGES
from tests.docs.test_docs import OPERATE, codes, section, tables
from tests.e2e.server import running
from tests.sip.calls import TALK

DOCKER = Path(__file__).parents[2] / "docker"
LABELS = {family.name: set(family.labels) for family in FAMILIES}
SCRAPED = {"instance", "job"}  # what Prometheus itself adds


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def board() -> dict[str, Any]:
    return dict(json.loads((DOCKER / "grafana" / "dashboards" / "voicegate.json").read_text()))


def asked() -> Iterator[tuple[str, str]]:
    """(where, what is asked there)."""
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    for panel in board()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in board()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def names(expression: str) -> set[str]:
    """Of families."""
    found = re.findall(r"\b(?:voicegate|process)_\w+", expression)
    return {name if name in LABELS else re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def labels(expression: str) -> set[str]:
    """That it filters or groups by."""
    grouped = {name for by in re.findall(r"by \(([^)]*)\)", expression) for name in by.split(",")}
    matched = {
        name for braces in re.findall(r"\{([^}]*)\}", expression) for name in re.findall(r"(\w+)\s*[=!]", braces)
    }
    return {name.strip() for name in grouped | matched}


def left(expression: str) -> set[str]:
    """The labels that its result has."""
    if " by (" in expression:
        return labels(expression) | SCRAPED
    return SCRAPED.union(*(LABELS.get(name, set()) for name in names(expression)))


async def test_all_that_is_asked_for_is_on_a_real_page(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[TALK, "clinic"], sip_port=0) as server,
        aiohttp.ClientSession(server.url) as http,
        http.get("/metrics") as response,
    ):
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    for where, expression in asked():
        found = names(expression)
        assert found or "up{" in expression, where
        assert {name.removesuffix("_total") for name in found} <= set(families), where
        known = set().union(*(LABELS.get(name, set()) for name in found)) | SCRAPED
        assert labels(expression) - {"le"} <= known, where
        for name in found & LABELS.keys():
            histogram = families[name.removesuffix("_total")].type == "histogram"
            assert histogram == (f"{name}_bucket" in expression), where
    told = [sample.labels for family in families.values() for sample in family.samples]
    assert {"flow": "clinic", "tool": "book", "state": "unknown"} in told, "an alert waits for its first rise"
    assert {"flow": "talk", "transport": "sip", "cause": "internal-error"} in told


def test_legends_name_labels_that_are_there() -> None:
    for panel in board()["panels"]:
        for target in panel.get("targets", ()):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= left(target["expr"]), panel["title"]
    for alert in alerts():
        shown = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
        assert shown <= left(alert["expr"]), alert["alert"]


def test_panels_have_places_of_their_own() -> None:
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(at["x"], at["y"]) for at in (panel["gridPos"] for panel in panels)]
    assert len(set(places)) == len(places)


def test_alerts_are_documented() -> None:
    listed = [codes(row[0])[0] for row in tables(section(OPERATE, "Metrics"))[1]]
    assert listed == [alert["alert"] for alert in alerts()]
    assert {alert["labels"]["severity"] for alert in alerts()} == {"page", "warn"}


def test_every_metric_is_documented_and_no_other() -> None:
    rows = tables(section(OPERATE, "Metrics"))[0]
    assert [(codes(row[0])[0], tuple(codes(row[1])), row[2]) for row in rows] == [
        (family.name, family.labels, family.help) for family in FAMILIES
    ]


def test_the_stages_are_documented() -> None:
    assert set(STAGES) <= set(codes(section(OPERATE, "Metrics")))
