"""CPU seconds and peak memory of a call, and tables of what was measured."""

import argparse
import ctypes
import gc
import resource
import time
from pathlib import Path

STATUS = Path("/proc/self/status")
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"


def cpu(function, *arguments):
    """What a call returns, and the CPU seconds of this process and its children."""
    before = _seconds()
    value = function(*arguments)
    return value, _seconds() - before


def peak_growth(function, *arguments):
    """What a call returns, and the MB by which it lifts resident memory (Linux; else nan)."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from now
        before = _status("VmRSS")
    except OSError:
        return function(*arguments), float("nan")
    value = function(*arguments)
    return value, (_status("VmHWM") - before) / 1024


def markdown(title, head, rows):
    """A title and a table."""
    lines = [head, ["---"] * len(head), *rows]
    body = "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
    return f"## {title}\n\n{body}\n"


def replace_section(path, name, text):
    """Put `text` between the markers of `name` in a file."""
    old = path.read_text(encoding="utf-8")
    begin, end = BEGIN.format(name), END.format(name)
    if old.count(begin) != 1 or old.count(end) != 1:
        raise SystemExit(f"{path} needs one line {begin!r} and one {end!r}")
    head, rest = old.split(begin)
    path.write_text(f"{head}{begin}\n{text}{end}{rest.split(end)[1]}", encoding="utf-8")


def run_sections(description, sections, prefix):
    """Command line of a benchmark: print its sections, and put them into a file on request."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(sections), metavar="SECTION")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in a file")
    options = parser.parse_args()
    for name in options.only or sections:
        text = markdown(*sections[name]())
        print(text, flush=True)
        if options.write:
            replace_section(options.write, f"{prefix} {name}", text)


def _seconds():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _status(key):
    for line in STATUS.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise OSError(f"{STATUS} has no {key}")
