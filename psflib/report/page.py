"""The empty page of the report; it loads nothing from anywhere but the small pictures beside it."""

import html
import string

from psflib.version import __version__

PAGE = string.Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px;
       padding: 0 1rem; color: #1c1c1c; background: #fff; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { border-bottom: 2px solid #ccc; margin-top: 3rem; }
nav, .about { color: #555; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.5rem; text-align: right; border-bottom: 1px solid #ddd; }
th { vertical-align: bottom; }
.wide { overflow-x: auto; }
.log td { text-align: left; font-family: monospace; font-size: 0.75rem; vertical-align: top; }
.warning { background: #fff3cd; border-left: 4px solid #d39e00; padding: 0.5rem 1rem; }
.verdicts td { text-align: left; vertical-align: top; }
.verdict { padding: 0 0.5rem; border-radius: 0.6rem; font-size: 0.85rem; font-weight: bold; }
.verdict:empty { display: none; }
.good { background: #d3ecdf; color: #00563c; }
.suspicious { background: #fff3cd; color: #6b5000; }
.bad { background: #f6d4cf; color: #8c1d0a; }
.lacking { color: #555; }
.facts th, .facts td { text-align: left; font-weight: normal; vertical-align: top; }
.facts th { color: #555; white-space: nowrap; }
.facts caption { text-align: left; font-weight: bold; }
figure { margin: 1rem 0; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr));
         gap: 0 1rem; }
img { max-width: 100%; height: auto; }
th button { font: inherit; font-weight: bold; border: 0; padding: 0; background: none;
            cursor: pointer; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
.sortable td { vertical-align: middle; }
.cut { height: 92px; image-rendering: pixelated; max-width: none; display: block; }
img.small { height: 72px; display: block; background: #eee; }
summary { cursor: pointer; color: #555; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="about">psflib $version, images of $table</p>
$body
</body>
</html>
""")


def verdict_word(word) -> str:
    """A verdict as a coloured word."""
    return f'<span class="verdict {word}">{word}</span>'


def fill(title: str, table, body: list[str]) -> str:
    """The page of a title, on images of `table`, with these parts of HTML."""
    return PAGE.substitute(
        title=html.escape(title),
        version=__version__,
        table=html.escape(str(table)),
        body="\n".join(body),
    )
