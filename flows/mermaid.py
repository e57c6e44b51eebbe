"""A flow as Mermaid text, for pages and repositories that draw it themselves."""

from flows.check import STAY
from flows.diagram import clean, label
from flows.model import Flow, Step

MAX_LABEL_CHARS = 120


def mermaid(flow: Flow) -> str:
    """A `flowchart`. Ids are numbers of ours; whatever the author wrote stands escaped inside quotation marks."""
    ids = {name: f"s{at}" for at, name in enumerate(flow.steps)}
    lines = ["flowchart TD"]
    if flow.start in ids:
        lines += ["  begin(( ))", f"  begin --> {ids[flow.start]}"]
    for name, step in flow.steps.items():
        text = "<br>".join(_quoted(line) for line in _box(flow, step))
        opening, closing = ("([", "])") if step.end else ("[", "]")
        lines.append(f'  {ids[name]}{opening}"{text}"{closing}')
    for name, step in flow.steps.items():
        for way in step.next:
            if way.to in ids:
                why = _quoted(label(step, way)[:MAX_LABEL_CHARS])
                lines.append(f"  {ids[name]} -->" + (f'|"{why}"| ' if why else " ") + ids[way.to])
    if band := [ids[name] for name in flow.digressions if name in ids]:
        lines += ['  subgraph any ["From any step, and back"]', *(f"    {one}" for one in band), "  end"]
    return "\n".join(lines) + "\n"


def _box(flow: Flow, step: Step) -> list[str]:
    told = [step.name]
    told += [f"needs {', '.join(step.requires)}"] if step.requires else []
    told += [f"asks {', '.join(step.collect)}"] if step.collect else []
    for name in step.tools:
        when = flow.tools[name].when if name in flow.tools else ""
        told.append(f"tool {name}" + (f" when {when[:MAX_LABEL_CHARS]}" if when else ""))
    told += [f"stays {label(step, way)[:MAX_LABEL_CHARS]}" for way in step.next if way.to == STAY]
    told += [f"ends {step.end}"] if step.end else []
    return told


def _quoted(text: str) -> str:
    """Letters, digits and plain marks stay; all that could mean something to Mermaid, Markdown or HTML is a number."""
    return "".join(
        char if char.isalnum() or char in " _.,:'-+()!?/=" else f"#{ord(char)};"
        for char in " ".join(clean(text).split())
    )
