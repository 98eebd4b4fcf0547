"""`python -m psflib STAGE ...`: the stages by the same door as the rules, and a few helpers."""

import argparse
import inspect
import json
import sys
from pathlib import Path

from psflib import config, stages
from psflib.errors import PsflibError
from psflib.files import atomic_path
from psflib.files.formats import table_text
from psflib.settings.subtract import METHODS
from psflib.stages import compiling

_MARK = "<!-- python -m psflib formats -->"


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command line."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        command(**options)
    except (PsflibError, ValueError) as error:
        raise SystemExit(f"psflib: {error}") from error


def _parser():
    parser = argparse.ArgumentParser(prog="python -m psflib", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    wanted = [name for name in stages.STAGES if name in sys.argv[1:2]] or stages.STAGES
    for name in wanted:  # the others would cost their imports
        _add_stage(commands, name, stages.stage(name))
    add = _adder(commands)
    add("schema", _schema, "write config.yaml and its JSON schema from the models", ["output"])
    add("bench", _bench, "seconds and peak memory of every stage of a run", ["output"])
    add("compile", _compile, "compile all loops now, so that no later run waits for it", [])
    _add_export(commands)
    add("formats", _formats, "the survey formats that are known, as a table", [], ["write"])
    add("check", _check, "the embedded field against its truth", ["output"], ["truth"])
    return parser


def _add_export(commands):
    text = "write the candidates of an epoch for another tool"
    command = commands.add_parser("export", help=text, description=text)
    command.add_argument("folder", type=Path, help="of the epoch: {output}/{field}/{epoch}")
    command.add_argument("--to", required=True, help="ds9, carta, votable, parquet or avro")
    command.add_argument("--output", type=Path, help="default: candidates.* in the folder")
    command.set_defaults(command=_export)


def _adder(commands):
    def add(name, function, text, required, optional=()):
        command = commands.add_parser(name, help=text, description=text)
        for option in required:
            command.add_argument(f"--{option}", required=True, type=Path)
        for option in optional:
            command.add_argument(f"--{option}", type=Path)
        command.set_defaults(command=function)

    return add


def _add_stage(commands, name, stage):
    text = inspect.getdoc(stage) or ""
    command = commands.add_parser(name, help=text.splitlines()[0], description=text)
    for argument in inspect.signature(stage).parameters.values():
        if argument.name not in ("settings", "others"):
            required = argument.default is argument.empty
            command.add_argument(f"--{argument.name}", required=required)
    command.add_argument("--config", type=Path, help="YAML file with settings")
    command.add_argument("--log", type=Path, help="file for what the stage says; default stderr")
    command.set_defaults(command=_stage_runner(name))


def _stage_runner(name):
    def run(config, log, **paths):
        settings = _read_config(config)
        own = settings.section(stages.SECTIONS.get(name, name))
        others = {other: settings.section(other) for other in stages.OTHERS.get(name, ())}
        stages.run(name, log_file=log, settings=own, others=others, **paths)

    return run


def _read_config(path):
    return config.read_config(path) if path else config.load_settings()


def _schema(output):
    """The schema at `output`; config.yaml two folders above it."""
    for path, text in (
        (output, json.dumps(config.config_schema(), indent=1) + "\n"),
        (output.parents[2] / "config.yaml", config.config_text()),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _bench(output):
    from psflib.report.summary import cost_lines

    sys.stdout.writelines(f"{line}\n" for line in cost_lines(output))


def _export(folder, to, output):
    from psflib.exports.export import export

    sys.stdout.write(f"{export(folder, to, output)}\n")


def _compile():
    compiling.compile_all(stages.run, METHODS)


def _formats(write):
    """The table to the screen, or between the marks of a page of the documentation."""
    if write is None:
        sys.stdout.write(table_text())
        return
    head, _, rest = write.read_text(encoding="utf-8").partition(_MARK)
    _, _, tail = rest.partition(_MARK)
    with atomic_path(write) as temporary:
        text = f"{head}{_MARK}\n\n{table_text()}\n{_MARK}{tail}"
        temporary.write_text(text, encoding="utf-8")


def _check(output, truth):
    from psflib.judging.validation import check_embedded

    lines = check_embedded(output, truth or Path("data/embedded/truth.ecsv"))
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
