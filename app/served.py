"""The flows that are served, and what of them will not work here."""

from collections.abc import Mapping

from app.providers import sphinx
from app.settings import Settings, SettingsError
from flows import grammar, load, template
from flows.model import Flow, Model

DEFAULT_FLOW = "clinic"
SCRIPTED_FLOW = "talk"
"""What is served instead with scripted speech."""


def load_flows(settings: Settings) -> dict[str, Flow]:
    """The flows to serve by name, the default first. Raises `flows.load.FlowError` and `SettingsError`."""
    provider, _, name = settings.model.partition(":")
    default = Model("default", provider, name)
    found: dict[str, Flow] = {}
    for name in settings.flows or (SCRIPTED_FLOW if settings.speech == "scripted" else DEFAULT_FLOW,):
        flow = load.load(load.find(name), default_model=default)
        if flow.name in found:
            raise SettingsError([f"two of the flows to serve are named {flow.name}"])
        found[flow.name] = flow
    return found


def check_routes(settings: Settings, flows: Mapping[str, Flow]) -> None:
    """Raises `SettingsError`."""
    for at, route in enumerate(settings.routes):
        if route.flow not in flows:
            raise SettingsError([f"VOICEGATE_ROUTES[{at}].flow: {route.flow} is not among the flows that are served"])


def warnings(settings: Settings, flow: Flow, environment: Mapping[str, str]) -> list[str]:
    """What will not work in this flow as it is served now, one line each."""
    missing = _unset_variables(flow, settings.tool_environment(environment))
    told = [f"{name} is not set: tools that use it will fail" for name in missing]
    if settings.speech == "embedded":
        slots = [flow.slots[name] for name in dict.fromkeys(n for step in flow.steps.values() for n in step.collect)]
        phrases = [phrase for name in flow.digressions for phrase in flow.steps[name].phrases]
        words = sphinx.unknown_words(grammar.vocabulary(slots, yesno=True, phrases=phrases))
        told += [f"the embedded recogniser cannot hear the word {word!r}" for word in words]
        if not sphinx.available():
            told.append("the embedded recogniser has no build for this Python: callers must use their keys")
    return told


def _unset_variables(flow: Flow, environment: Mapping[str, str]) -> list[str]:
    """Variables that the flow's tools need and that are not given."""
    texts = [*flow.allow_hosts, *(step.transfer.to for step in flow.steps.values() if step.transfer is not None)]
    for tool in flow.tools.values():
        if tool.http is not None:
            texts += [tool.http.url, *(value for _, value in tool.http.headers)]
    named = {name.removeprefix("env.") for text in texts for name in template.fields(text) if name.startswith("env.")}
    return sorted(named - environment.keys())
