"""The style sheet of every page; the palette is Okabe and Ito's, which colour-blind readers can tell apart."""

STYLE = """
:root{--paper:#fff;--ink:#1c1e21;--soft:#5b6169;--rule:#dfe2e6;--wash:#f6f7f8;--good:#00694d;--bad:#b03a00;
--s0:#0072b2;--s1:#d55e00;--s2:#00815d;--s3:#a8457f;--s4:#6b6f76}
@media (prefers-color-scheme:dark){:root{--paper:#15171a;--ink:#e8e9eb;--soft:#a0a6ae;--rule:#33373d;--wash:#1d2024;
--good:#4cc79f;--bad:#ff9a62;--s0:#56b4e9;--s1:#f0883e;--s2:#2fc299;--s3:#dd8fbf;--s4:#a0a6ae}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1180px;margin:0 auto;padding:48px 32px 96px}
header{border-bottom:1px solid var(--rule);padding-bottom:24px}
.overline{margin:0 0 20px;color:var(--soft);font-size:14px}
.overline b{color:var(--ink);letter-spacing:.02em;margin-right:.6em}
h1{font:400 30px/1.32 Charter,"Bitstream Charter","Iowan Old Style",Georgia,"Times New Roman",serif;margin:0;
max-width:34em;text-wrap:pretty;overflow-wrap:anywhere}
.facts{color:var(--soft);font-size:14px;margin:20px 0 0;overflow-wrap:anywhere}
.warning{border-left:3px solid var(--bad);padding:2px 0 2px 14px;margin:20px 0 0;max-width:46em}
section{margin-top:56px}
h2{font-size:20px;line-height:1.3;font-weight:600;margin:0 0 6px}
.note{color:var(--soft);font-size:14px;margin:0 0 18px;max-width:52em}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14.5px}
th{font-weight:600;font-size:13px;color:var(--soft);text-align:left;white-space:nowrap}
th,td{padding:9px 18px 9px 0;border-bottom:1px solid var(--rule);vertical-align:top;overflow-wrap:break-word}
th:last-child,td:last-child{padding-right:0}
td small,td code{display:block;font-size:12.5px;color:var(--soft);line-height:1.45}
td code,dt,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
td code{overflow-wrap:anywhere}
td small span{white-space:nowrap}td small span+span::before{content:"· "}
td b{font-weight:600}
td em{font-style:normal;font-weight:600;font-size:13px;margin-left:.35em}
a{color:inherit;text-underline-offset:3px}
em.better{color:var(--good)}em.worse{color:var(--bad)}em.no{font-weight:400;color:var(--soft)}
.arrow{color:var(--soft)}
.balance td:first-child{width:40%}
.items td{overflow-wrap:anywhere}
.items td:first-child{width:32%}
.sweep .error{color:var(--bad)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:36px 40px;margin-top:18px}
figure{margin:0;max-width:560px;display:flex;flex-direction:column}
figure svg{margin-top:auto}
figure.wide{max-width:700px}
figcaption{font-weight:600;font-size:14.5px;margin-bottom:2px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 16px;margin:2px 0 14px;padding:0;font-size:13px;
color:var(--soft)}
.legend i{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:6px}
.legend i.mark-s0{background:var(--s0)}.legend i.mark-beaten{border:1.5px solid var(--s4)}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-size:11.5px;fill:var(--soft)}
svg text.end{font-weight:600;fill:currentColor}
svg text.name{fill:var(--ink);stroke:var(--paper);stroke-width:4;paint-order:stroke}
.grid{stroke:var(--rule);stroke-width:1}
.axis,.reference{stroke:var(--soft);stroke-width:1;fill:none}
.line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}
.mark{fill:currentColor}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}.s4,.beaten{color:var(--s4)}
polyline.s1{stroke-dasharray:7 3}polyline.s2{stroke-dasharray:2 3}polyline.s3{stroke-dasharray:9 3 2 3}
.front{fill:none;stroke:var(--s0);stroke-width:1.5;stroke-dasharray:4 4}
.bar{stroke:currentColor;stroke-width:1.2;opacity:.55;fill:none}
.dot{fill:currentColor;stroke:var(--paper);stroke-width:1.5}
.dot.beaten{fill:var(--paper);stroke:currentColor}
dl{display:grid;grid-template-columns:minmax(0,22em) minmax(0,1fr);gap:0 24px;font-size:13.5px;margin:12px 0 0}
dt,dd{margin:0;padding:4px 0;border-bottom:1px solid var(--rule);overflow-wrap:anywhere}
dt{font-size:12.5px;color:var(--soft)}
details{border-bottom:1px solid var(--rule);padding:10px 0}
summary{cursor:pointer;font-weight:600;font-size:14.5px}
pre{background:var(--wash);padding:12px 14px;font-size:13px;white-space:pre-wrap;overflow-wrap:anywhere;margin:12px 0 0}
@media (max-width:680px){
main{padding:28px 18px 64px}
h1{font-size:23px}
section{margin-top:44px}
svg text{font-size:12.5px}
figure.wide svg text{font-size:17px}
dl{grid-template-columns:1fr}dt{border:0;padding-bottom:0}
thead{display:none}
tr{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:4px 12px;border-bottom:1px solid var(--rule);
padding:12px 0}
.balance tr{grid-template-columns:repeat(3,1fr)}
td,.balance td:first-child,.items td:first-child{display:block;border:0;padding:2px 0;width:auto}
td::before{content:attr(data-label);display:block;font-size:12px;color:var(--soft)}
td:first-child{grid-column:1/-1}
.items td:first-child{font-weight:600}
.balance td:first-child::before,.items td:first-child::before{content:none}
td small span{display:block}td small span+span::before{content:none}
}
@media print{main{padding:0;max-width:none}section{break-inside:avoid}}
"""
