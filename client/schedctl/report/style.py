"""The style sheet of the page: light and dark, wide and narrow, and for print."""

from __future__ import annotations

#: The colours differ in lightness too, so that everybody can distinguish them.
CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --text: #1b2330; --soft: #5b6675; --line: #dfe3e9;
  --faint: #eef1f5;
  --after: #2f6fdb; --before: #b45309; --sent: #94a3b8; --cap: #15803d; --limit: #b91c1c;
  --up: #166534; --down: #9a3412;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10141b; --card: #182029; --text: #e6eaf0; --soft: #9aa7b8; --line: #2b3643;
    --faint: #202a35;
    --after: #6ea2ff; --before: #f0a94b; --sent: #5d6c80; --cap: #5fd08a; --limit: #ff8080;
    --up: #6fd79a; --down: #f5a97f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%;
}
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.65rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 4px; }
p { margin: 0 0 12px; }
.soft { color: var(--soft); }
.small { font-size: .87rem; }
section, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
section, figure { padding: 18px 20px; margin: 18px 0 0; }
.facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 20px 0 0;
}
.fact {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px;
}
.fact dt { color: var(--soft); font-size: .82rem; }
.fact dd { margin: 0; font-size: 1.35rem; font-weight: 600; line-height: 1.25; }
.fact dd span { display: block; font-size: .82rem; font-weight: 400; color: var(--soft); }
.columns {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr));
  gap: 0 18px;
}
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td {
  padding: 5px 10px 5px 0; text-align: left; border-bottom: 1px solid var(--faint);
  white-space: nowrap;
}
thead th {
  color: var(--soft); font-weight: 500; font-size: .82rem; border-bottom-color: var(--line);
}
tbody th { font-weight: 400; }
tfoot th, tfoot td { font-weight: 600; border-bottom: 0; }
td.n, th.n { text-align: right; padding-left: 10px; }
td.n:last-child, th.n:last-child { padding-right: 0; }
td.bar { width: 34%; min-width: 90px; padding-left: 8px; }
.bar i {
  display: block; height: 9px; border-radius: 2px; background: var(--after); min-width: 1px;
}
.up { color: var(--up); } .down { color: var(--down); }
figure svg { display: block; width: 100%; height: auto; margin: 10px 0 0; }
figcaption p { margin: 0; }
.chart-wide { min-width: 620px; }
.after { fill: var(--after); } .sent { fill: var(--sent); }
.before { fill: none; stroke: var(--before); stroke-width: 1.4; stroke-linejoin: round; }
.cap, .limit { stroke-width: 1.3; stroke-dasharray: 6 4; }
.cap { stroke: var(--cap); } .limit { stroke: var(--limit); }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
svg text.on-cap { fill: var(--cap); }
svg text.on-limit { fill: var(--limit); }
svg text.on-before { fill: var(--before); }
.axis { stroke: var(--line); stroke-width: 1; }
.key {
  display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0; margin: 10px 0 0; list-style: none;
}
.key { font-size: .87rem; }
.key li { display: flex; align-items: center; gap: 7px; }
.key b { display: inline-block; width: 14px; height: 10px; border-radius: 2px; }
.key b.k-after { background: var(--after); } .key b.k-sent { background: var(--sent); }
.key b.k-before { border: 1.6px solid var(--before); }
.key b.k-cap { height: 0; border-top: 2px dashed var(--cap); }
.key b.k-limit { height: 0; border-top: 2px dashed var(--limit); }
details { margin: 10px 0 0; } summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
@media (max-width: 560px) {
  main { padding: 18px 12px 40px; }
  section, figure { padding: 14px 12px; border-radius: 8px; }
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .fact dd { font-size: 1.15rem; }
}
@media print {
  body { background: #fff; } section, figure, .fact { break-inside: avoid; border-color: #ccc; }
  details { display: none; }
}
"""
