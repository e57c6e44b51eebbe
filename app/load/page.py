"""The page around a report: its styles for light and dark, wide and narrow, screen and paper. No script, no network."""

from html import escape
from typing import Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; media-src *; img-src data:"

STYLE: Final = """
:root { color-scheme: light dark; --bg: #fbfbfa; --box: #fff; --ink: #1c2128; --soft: #59636e; --rule: #d5dae0;
  --grid: #e6e9ed; --c1: #1f5fd0; --c2: #b3580a; --c3: #a1278f; --c4: #0a7d68; --good: #0b6e3f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171b; --box: #1c2026; --ink: #e7eaee; --soft: #a3adb8;
  --rule: #39414a; --grid: #2a3038; --c1: #78a9ff; --c2: #f0a35a; --c3: #e58ad8; --c4: #4cc9b0; --good: #5fd39a;
  --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 1.2rem; background: var(--bg); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h1 span { overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
header p { margin: .2rem 0; color: var(--soft); } small { color: var(--soft); font-size: .87rem; }
a { color: var(--c1); }
.verdict { display: inline-block; font-weight: 600; margin: .7rem 0 .2rem; padding: .25rem .8rem; border-radius: .4rem;
  border: 1px solid currentcolor; }
.good { color: var(--good); } .bad { color: var(--bad); } header .verdict.none { color: var(--soft); }
header .verdict.good { color: var(--good); } header .verdict.bad { color: var(--bad); }
header .note { color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin-top: 1rem; }
.tiles div { background: var(--box); border: 1px solid var(--rule); border-radius: .5rem; padding: .7rem .9rem; }
.tiles h2 { font-size: .87rem; font-weight: 500; color: var(--soft); margin: 0; }
.tiles p { font-size: 1.6rem; font-weight: 600; margin: 0; line-height: 1.3; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--grid); vertical-align: top; }
th { font-weight: 500; white-space: nowrap; } thead th { color: var(--soft); font-size: .87rem; }
th.n, td.n { text-align: right; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
figure, article { margin: 0; background: var(--box); border: 1px solid var(--rule); border-radius: .5rem;
  padding: .8rem 1rem; min-width: 0; }
article { margin: 0 0 1rem; } article h3 { margin: 0; } article p { margin: .2rem 0 .5rem; }
figcaption { font-weight: 500; margin-bottom: .3rem; }
svg { display: block; width: 100%; height: auto; } svg.timeline { min-width: 40rem; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .grid { stroke: var(--grid); } svg .lane { fill: var(--grid); opacity: .6; }
svg .mark { stroke: var(--ink); stroke-dasharray: 2 3; } svg text.mark { stroke: var(--box); stroke-width: 3px;
  stroke-dasharray: none; paint-order: stroke; fill: var(--ink); }
svg .limit { stroke: var(--bad); stroke-dasharray: 6 4; } svg text.limit { stroke: none;
  fill: var(--bad); }
svg .s1 { fill: var(--c1); } svg .s2 { fill: var(--c2); } svg .s3 { fill: var(--c3); } svg .s4 { fill: var(--c4); }
svg rect.bad { fill: var(--bad); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .line.s1 { stroke: var(--c1); } svg .line.s2 { stroke: var(--c2); } svg .line.s3 { stroke: var(--c3); }
svg .line.s4 { stroke: var(--c4); } svg .dashed { stroke-dasharray: 5 4; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .3rem 0 .6rem; padding: 0;
  font-size: .87rem; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: .4rem; } svg.key { width: 26px; }
.legend i { width: .9rem; height: .9rem; border-radius: .15rem; } i.s1 { background: var(--c1); }
i.s2 { background: var(--c2); } i.s3 { background: var(--c3); } i.s4 { background: var(--c4); }
i.bad { background: var(--bad); }
audio { width: 100%; max-width: 30rem; height: 2.2rem; }
@media (max-width: 600px) { svg.chart text { font-size: 17px; } }
@media print { :root { color-scheme: light; --bg: #fff; --box: #fff; --ink: #000; --soft: #444; --rule: #bbb;
  --grid: #ddd; --c1: #1f5fd0; --c2: #b3580a; --c3: #a1278f; --c4: #0a7d68; --good: #0b6e3f; --bad: #b3261e; }
  audio { display: none; } figure, article, tr { break-inside: avoid; } .wide { overflow: visible; }
  * { print-color-adjust: exact; } }
"""


def page(title: str, body: str) -> str:
    """`body` is HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )
