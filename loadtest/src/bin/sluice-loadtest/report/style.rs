//! The page's style: readable in light and dark, on paper, and without colours.

pub(super) const STYLE: &str = r#"
:root { color-scheme: light dark; --back: #fff; --text: #1c1e21; --dim: #5b626b; --rule: #d9dde2; --box: #f4f6f8;
  --good: #1a7f4b; --bad: #b3261e; --c0: #0072b2; --c1: #d55e00; --c2: #00805c; --c3: #a8497f; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --text: #e6e8ea; --dim: #a3abb4; --rule: #363c43;
  --box: #1e2327; --good: #5fd39a; --bad: #ff8a80; --c0: #6bbcf0; --c1: #f5a05a; --c2: #4ed0a6; --c3: #e39cc6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--rule); }
.dim { color: var(--dim); margin: 0; }
.box { background: var(--box); border-left: 4px solid var(--good); padding: .6rem 1rem; margin: 1rem 0; }
.box.bad { border-color: var(--bad); }
.box p { margin: .2rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.card { background: var(--box); padding: .6rem .9rem; }
.card b { display: block; font-size: 1.2rem; font-weight: 600; white-space: nowrap; }
.card span { color: var(--dim); font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; min-width: 9rem; }
caption { text-align: left; color: var(--dim); }
.wide { overflow-x: auto; }
pre { background: var(--box); padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
summary { cursor: pointer; color: var(--dim); }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: var(--text); }
.grid { stroke: var(--rule); }
.shade { fill: var(--box); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.bar { fill: var(--c0); }
.over { paint-order: stroke; stroke: var(--back); stroke-width: 5px; stroke-linejoin: round; }
.mark { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 2 3; }
.line.s0 { stroke: var(--c0); } .dot.s0 { fill: var(--c0); }
.line.s1 { stroke: var(--c1); stroke-dasharray: 7 3; } .dot.s1 { fill: var(--c1); }
.line.s2 { stroke: var(--c2); stroke-dasharray: 2 2; } .dot.s2 { fill: var(--c2); }
.line.s3 { stroke: var(--c3); stroke-dasharray: 9 3 2 3; } .dot.s3 { fill: var(--c3); }
@media print { body { max-width: none; } details { display: block; } }
"#;
