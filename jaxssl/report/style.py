"""The style sheet of the page, whole, as it fetches nothing.

It must hold the page on a light and on a dark screen, on a phone (what is wider than the page scrolls in a box of its
own) and on paper (light, nothing scrolls, no figure broken). Figures and swatches take their colours from its variables
alone.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fdfdfb; --ink: #1c2126; --muted: #5b636c; --rule: #dcdfe2; --soft: #f3f4f2;
  --ssl: #0b5cad; --random: #b04a00; --imagenet: #19734f; --both: #96286f;
  --kind0: #0b5cad; --kind1: #b04a00; --kind2: #19734f; --kind3: #96286f;
  --kind4: #7a6200; --kind5: #00727d; --kind6: #b3263a; --kind7: #4c4aa8;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #15181b; --ink: #e6e4df; --muted: #a2a7ad; --rule: #363b41; --soft: #1e2226;
    --ssl: #74b4f5; --random: #f0a060; --imagenet: #5fcba2; --both: #e48cc8;
    --kind0: #74b4f5; --kind1: #f0a060; --kind2: #5fcba2; --kind3: #e48cc8;
    --kind4: #d8be55; --kind5: #5cc5d3; --kind6: #f58a8f; --kind7: #a9a6f5;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: clamp(1.25rem, 4vw, 4rem) clamp(1rem, 4vw, 3rem); max-width: 76rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial,
    sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; -webkit-text-size-adjust: 100%;
}
p, li { max-width: 44rem; }
h1, h2, h3 { line-height: 1.25; text-wrap: balance; font-weight: 600; }
h1 { margin: 0; font-size: 1rem; color: var(--muted); letter-spacing: .01em; }
h2 { margin: 0 0 1rem; font-size: 1.35rem; letter-spacing: -.01em; }
h2.minor, h3 { margin: 2rem 0 .5rem; font-size: 1rem; }
.answer {
  margin: .75rem 0 0; max-width: 50rem; text-wrap: pretty;
  font-size: clamp(1.2rem, .95rem + 1.1vw, 1.75rem); line-height: 1.4;
  font-family: Charter, "Bitstream Charter", "Sitka Text", Cambria, "Noto Serif", "Liberation Serif", Georgia, serif;
}
.answer span { white-space: nowrap; }
.limits { margin: 0; padding-left: 1.1rem; color: var(--muted); }
.limits li { margin: .35rem 0; }
section { margin-top: 3.5rem; padding-top: 1.75rem; border-top: 1px solid var(--rule); }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--ssl); outline-offset: 3px; }
table { border-collapse: collapse; font-size: .9375rem; overflow-wrap: normal; }
caption {
  position: sticky; left: 0; min-width: 19rem; max-width: min(44rem, calc(100vw - 2rem)); margin-bottom: .75rem;
  text-align: left; text-wrap: pretty; color: var(--muted); font-size: .875rem;
}
th, td { padding: .4rem 1.1rem .4rem 0; text-align: right; vertical-align: baseline; font-weight: 400; }
th:first-child { text-align: left; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-size: .8125rem; border-bottom: 1px solid var(--rule); vertical-align: bottom; }
.scores td, .scores tbody th { white-space: nowrap; }
.beside { display: flex; flex-wrap: wrap; gap: 1.5rem 2.5rem; align-items: flex-start; }
.beside figure { flex: 0 1 20rem; }
.beside .scroll { min-width: 0; }
.scores td span { color: var(--muted); font-size: .8125rem; }
.scores .of th { padding-top: 1rem; font-weight: 600; text-align: left; }
.scores strong { color: var(--random); font-weight: 600; }
.grid { display: grid; gap: 1.75rem 2rem; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); }
.grid.square { grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr)); }
.grid.wide { grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)); margin-top: 1.5rem; }
figure {
  display: flex; flex-direction: column; justify-content: space-between; margin: 0; min-width: 0; break-inside: avoid;
}
figcaption { margin-bottom: .35rem; font-size: .9375rem; font-weight: 600; }
figcaption small { display: block; font-size: .8125rem; font-weight: 400; color: var(--muted); }
svg { display: block; width: 100%; height: auto; max-width: 24rem; overflow: visible; }
.square svg { max-width: 17rem; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: inherit !important; font-variant-numeric: tabular-nums; }
.legend {
  display: flex; flex-wrap: wrap; gap: .25rem 1.75rem; margin: 0 0 1.25rem; padding: 0;
  font-size: .9375rem; list-style: none;
}
.swatch {
  display: inline-block; width: 1.6em; margin-right: .5em; border-top: 3px solid var(--ink); vertical-align: .25em;
}
.swatch.ssl, .swatch.supervised { border-color: var(--ssl); }
.swatch.random { border-top-style: dashed; border-color: var(--random); }
.swatch.imagenet { border-top-style: dotted; border-color: var(--imagenet); }
.swatch.imagenet-ssl, .swatch.imagenet-supervised { border-top-style: double; border-color: var(--both); }
.grid + h3 { margin-top: 2.5rem; }
svg.interval { display: inline-block; width: 150px; height: 18px; vertical-align: middle; }
.differences { margin-bottom: 2rem; }
.differences caption { color: var(--ink); font-size: 1rem; font-weight: 600; }
.differences th small { display: block; color: var(--muted); font-size: .8125rem; }
.differences td:last-child, .differences th:last-child { text-align: left; }
.runs th, .runs td { text-align: left; }
.runs td { padding-right: 1.5rem; }
a { color: var(--ssl); }
a:focus-visible { outline: 2px solid var(--ssl); outline-offset: 3px; }
.key { gap: .15rem 1.1rem; margin-bottom: .35rem; font-size: .875rem; }
.key li:first-child { color: var(--muted); }
.key .rest { color: var(--muted); }
.plot { position: relative; max-width: 24rem; background: var(--soft); touch-action: pan-y; }
.here {
  position: absolute; width: 18px; height: 18px; margin: -9px 0 0 -9px; border: 2px solid var(--ink);
  border-radius: 50%; pointer-events: none;
}
.explore {
  position: sticky; top: 0; z-index: 1; display: flex; gap: 1rem; align-items: center; margin-bottom: 1rem;
  padding: .6rem 0; background: var(--page); border-bottom: 1px solid var(--rule); font-size: .875rem;
}
.explore[hidden] { display: none; }
.explore > div { min-width: 0; flex: 1; max-width: 44rem; }
.explore .thumb { --tile: 5rem; flex: none; }
.explore label { display: block; font-weight: 600; }
.explore input { width: 100%; max-width: 24rem; margin: .2rem 0; accent-color: var(--ssl); }
.explore input:focus-visible { outline: 2px solid var(--ssl); outline-offset: 3px; }
.explore p { margin: 0; min-height: 1.5em; color: var(--muted); }
.explore bdi { margin-right: .6em; color: var(--ink); }
.thumb {
  --tile: 2.5rem; display: inline-block; width: var(--tile); height: var(--tile); background-image: var(--sprite);
  background-size: calc(var(--across) * var(--tile)) auto; print-color-adjust: exact;
  background-position: calc(-1 * var(--x) * var(--tile)) calc(-1 * var(--y) * var(--tile));
}
.mapped .thumb { margin-right: .75rem; vertical-align: middle; }
.mapped td { text-align: left; vertical-align: middle; }
.mapped thead th { text-align: left; }
.row { display: flex; gap: .5rem; }
.row div { flex: 0 1 6rem; min-width: 0; }
.row img { display: block; width: 100%; height: auto; background: var(--soft); }
.row small {
  display: block; margin-top: .25rem; font-size: .75rem; line-height: 1.35; color: var(--muted);
  overflow: hidden; text-overflow: ellipsis;
}
.row small bdi {
  display: inline-block; max-width: calc(100% - 1.2em); overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  vertical-align: bottom;
}
.row strong { color: var(--random); font-weight: 600; }
.strip { justify-content: flex-start; }
.strip figcaption { font-size: .8125rem; font-weight: 400; color: var(--muted); }
.strip figcaption small { display: inline; }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: 1.25rem 1rem; }
.grid.pair { grid-template-columns: repeat(auto-fill, minmax(min(13rem, 100%), 1fr)); }
.nowrap { white-space: nowrap; margin-right: .6em; }
.confusion th, .confusion td { padding: .35rem .6rem; }
.confusion caption, .thresholds caption { color: var(--ink); font-weight: 600; }
.confusion thead th { text-align: center; }
.confusion th bdi { display: block; max-width: 7.5rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.confusion thead th:first-child { padding-left: 0; text-align: left; }
.confusion tbody th { padding-left: 0; }
.confusion td {
  min-width: 3rem; text-align: center; border: 1px solid var(--page); print-color-adjust: exact;
  background: color-mix(in srgb, var(--ssl) calc(var(--share) * 45%), var(--soft)); -webkit-print-color-adjust: exact;
}
.confusion .hit { font-weight: 600; }
.facts { margin: 0 0 2rem; font-size: .9375rem; }
.scroll + .facts { margin-top: 1.5rem; }
.facts div { display: grid; grid-template-columns: minmax(8rem, 12rem) 1fr; gap: 0 1.5rem; padding: .3rem 0; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; }
.config { margin-top: 1rem; font-size: .8125rem; }
.config div { grid-template-columns: minmax(8rem, 20rem) 1fr; padding: .12rem 0; }
details { margin-top: 1.5rem; }
summary { cursor: pointer; font-weight: 600; }
pre { margin: 0; padding: .9rem 1rem; background: var(--soft); white-space: pre-wrap; font-size: .875rem; }
@media (max-width: 40rem) {
  .scores td span { display: block; }
  .scores tbody th { white-space: normal; }
  .scores th, .scores td { padding-right: .9rem; }
}
@page { margin: 15mm; }
@media print {
  :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  section { margin-top: 1.5rem; padding-top: 1rem; }
  tr, figure, .confusion { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  .explore, .here { display: none; }
  .map .grid { grid-template-columns: repeat(3, 1fr); }
}
"""
