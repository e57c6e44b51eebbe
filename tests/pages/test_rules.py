"""The console knows every rule by which the gate can refuse."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_of_the_gate_s_rules_has_words() -> None:
    source = "".join((ROOT / "app" / "core" / name).read_text() for name in ("gate.py", "core.py"))
    rules = set(re.findall(r'(?:Refusal\(|not_written\(call, n, )"([\w-]+)"', source))
    page = (ROOT / "app" / "console" / "static" / "console" / "flows.js").read_text()
    words = re.search(r"const RULES = \{(.*?)\n\};", page, re.DOTALL)
    assert words is not None
    known = set(re.findall(r'^  "?([\w-]+)"?: "', words[1], re.MULTILINE))
    assert {"step", "rev", "once"} <= rules
    assert rules <= known
