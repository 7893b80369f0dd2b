"""The parser that all commands share, and the way from arguments to an exit code.

A command is a module of `jaxssl.cli` with a constant `GROUP`, one of `GROUPS`. Its docstring is its help. It defines
`add_arguments(parser)` and `run(options)`, which returns the exit code, and may define `epilog()`, printed below its
help. A command that sets `TAKES_FIELDS = True` accepts `--config.FIELD=VALUE` and finds these arguments in
`options.assignments`. Only the module of the command in use is imported, so that help and mistakes are answered without
loading JAX.
"""

import argparse
import ast
import contextlib
import importlib
import itertools
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import jaxssl
from jaxssl.cli import messages
from jaxssl.errors import PreemptedError, TrainingFailedError, UserError, did_you_mean, print_error
from jaxssl.results.description import damaged, find_damage
from jaxssl.training import runtime

GROUPS = ("experiments", "results", "trained networks", "datasets")  # Of the commands, in the order of the help.
INTERRUPTED = 130  # Exit code after Ctrl-C, as shells have it: 128 + SIGINT.
EXIT_CODES = """exit codes:
  0    done
  1    sweep: some cells failed
  2    invalid input
  3    training failed: the loss is not finite, or the encoder collapsed
  75   preempted and saved: run the same command again to resume
  130  Ctrl-C"""
FIRST_STEPS = """for your own images, a folder with a sub-folder for each class, a table, or an .npz archive:
  jaxssl data audit IMAGES
  jaxssl run own --config.data.dir=IMAGES --workdir=runs/mine"""


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are a `UserError`, and whose epilog is made only when help is printed."""

    make_epilog: Callable[[], str] | None = None

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def format_help(self) -> str:
        if self.make_epilog:
            self.epilog = self.make_epilog()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        missing = re.match("the following arguments are required: (.*)", message)
        invalid = re.match("argument ([^:]*):", message)
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if choice and invalid:
            allowed = re.findall(r"[\w.+-]+", choice[2])
            hint = did_you_mean(choice[1], allowed)
            message = f"{invalid[1]}: {choice[1]!r} is unknown: {hint}Valid values: {', '.join(allowed)}"
        field = missing[1] if missing else invalid[1] if invalid else ""
        code = "missing" if missing else "unknown-name" if choice else "out-of-range"
        raise UserError(f"{message}. See {self.prog} --help", code=code, field=field)


def commands() -> dict[str, list[str]]:
    """Return the names of the commands by group, in the order of the help."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        match = re.search(r'^GROUP = "(.*)"', file.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            groups[match[1]].append(file.stem)
    return groups


def command_table() -> str:
    """Return the commands by group with their descriptions, for the help."""
    lines = summaries(Path(__file__).parent)
    return "\n\n".join(table(group, {name: lines[name] for name in names}) for group, names in commands().items())


def summaries(folder: Path) -> dict[str, str]:
    """Return the first docstring line of every Python file in `folder` by the file's stem, without importing it."""
    files = (file for file in sorted(folder.glob("*.py")) if not file.stem.startswith("_"))
    docstrings = {file.stem: ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "" for file in files}
    return {name: text.partition("\n")[0].rstrip(".") for name, text in docstrings.items()}


def make_parser(command: str = "") -> Parser:
    """Return the parser of all commands, in which `command` has its arguments."""
    top = Parser("jaxssl", usage="jaxssl COMMAND ...", description=(jaxssl.__doc__ or "").partition("\n")[0])
    top.make_epilog = lambda: "\n\n".join(
        (FIRST_STEPS, command_table(), "jaxssl COMMAND --help explains a command.", EXIT_CODES)
    )
    top.add_argument("--version", action="version", version=f"jaxssl {jaxssl.__version__}")
    subparsers = top.add_subparsers(dest="command", help=argparse.SUPPRESS, prog="jaxssl", parser_class=Parser)
    for name in itertools.chain(*commands().values()):
        parser = subparsers.add_parser(name)
        if name == command:
            module = importlib.import_module(f"jaxssl.cli.{name}")
            parser.description = module.__doc__
            parser.make_epilog = getattr(module, "epilog", None)
            parser.set_defaults(run=module.run)
            module.add_arguments(parser)
            for leaf in leaves(parser):
                leaf.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    return top


def subparsers_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the subcommands by name; {} where there are none."""
    actions = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next((dict(action.choices) for action in actions), {})


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG, which `config_name` returns, as an argument and as a flag."""
    parser.add_argument("positional", nargs="?", metavar="CONFIG", help="Name or path of a config, as NAME[:ARGUMENT].")
    parser.add_argument("--config", metavar="CONFIG", help="The same, as a flag.")


def config_name(options: argparse.Namespace) -> str:
    """Return the config that CONFIG or --config names. UserError where neither or both are given."""
    if options.positional and options.config:
        message = f"{options.positional!r} and --config={options.config} are both given: give the config once"
        raise UserError(message, code="conflict", field="--config")
    name = options.positional or options.config
    if not name:
        message = "the config is missing: give its name or path; for your own images, own --config.data.dir=DIR"
        raise UserError(message, code="missing", field="--config")
    return name


def add_workdir_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="WORKDIR", help="The workdir of a finished run.")


def add_image_arguments(parser: argparse.ArgumentParser, endings: str) -> None:
    """Add WORKDIR, IMAGES and --to, whose file has one of these `endings`."""
    add_workdir_argument(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="Folders, files or archives.")
    parser.add_argument("--to", required=True, metavar="FILE", help=f"Output file, {endings}; overwritten.")


def table(title: str, rows: Mapping[str, str]) -> str:
    """Return names and descriptions as lines below a title, for the end of a help text."""
    width = max(map(len, rows), default=0)
    lines = [
        f"  {name:<{width}}  {textwrap.shorten(line, 116 - width, placeholder=' ...')}" for name, line in rows.items()
    ]
    return "\n".join([f"{title}:", *(line.rstrip() for line in lines)])


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers below `parser` that have no subcommands, or `parser` itself."""
    inner = subparsers_of(parser)
    if not inner:
        yield parser
    for sub in inner.values():
        yield from leaves(sub)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line, with `command`, `run` and, for some commands, `assignments`.

    Args:
      arguments: the command line after `jaxssl`.

    Raises:
      UserError: an unknown command or flag, a missing argument, a value of the wrong type.
      SystemExit: with code 0, after the help or the version was printed.
    """
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    known = [*itertools.chain(*commands().values())]
    if command and command not in known:
        configs = importlib.import_module("jaxssl.config.load").available()  # This loads JAX.
        config = command.partition(":")[0] in configs
        hint = f"did you mean 'jaxssl run {command}'? " if config else did_you_mean(command, known)
        message = f"{command!r} is not a command: {hint}Valid commands: {', '.join(known)}"
        raise UserError(message, code="unknown-name", field="COMMAND")
    top = make_parser(command)
    parser = subparsers_of(top).get(command, top)
    assignments = []
    fielded = getattr(sys.modules.get(f"jaxssl.cli.{command}"), "TAKES_FIELDS", False)
    if fielded:
        # Taken out beforehand: argparse reads an argument with a space, such as a tuple, as a positional one.
        assignments = [argument for argument in arguments if argument.startswith("--config.")]
        arguments = [argument for argument in arguments if not argument.startswith("--config.")]
    check_flags(arguments, parser)
    options, rest = top.parse_known_args(arguments)
    if rest:
        remedy = f"give images as --config.data.dir={rest[0]}. " if fielded and Path(rest[0]).exists() else ""
        message = f"{rest[0]!r} is one argument too many: {remedy}See {parser.prog} --help"
        raise UserError(message, code="unknown-name", field=rest[0])
    options.assignments = assignments
    return options


def check_flags(arguments: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Refuse flags that neither `parser` nor its subcommands have."""
    known = {flag for one in (parser, *leaves(parser)) for flag in one._option_string_actions}
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--") and flag != "--" and flag not in known:
            close = did_you_mean(flag, known)
            if not close and "--config" in known:
                field = flag.removeprefix("--") if "." in flag else "pretrain.epochs"
                close = f"fields are set as --config.{field}=VALUE. "
            message = f"{flag} is not a flag of {parser.prog}: {close}See {parser.prog} --help"
            raise UserError(message, code="unknown-name", field=flag)


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are printed as one line on stderr.

    Args:
      arguments: the command line after `jaxssl`.
    """
    try:
        options = parse(arguments)
        if not options.command:
            make_parser().print_help()
            return 0
        code = options.run(options)
        sys.stdout.flush()  # A full disk is told here, in one line.
        return code
    except (UserError, TrainingFailedError, PreemptedError) as error:
        return print_error(error, "--debug" in arguments)
    except MemoryError as error:
        message = f"this needs more memory than the host has: {error}".rstrip(": ")
        return print_error(UserError(message, code="out-of-memory"), "--debug" in arguments)
    except OSError as error:  # A file that is a folder, a broken disk or link, a permission.
        file, reason = str(error.filename or ""), error.strerror or str(error)
        message = f"{file}: {reason}" if file else reason
        return print_error(UserError(message, code="unreadable", field=file), "--debug" in arguments)
    except KeyboardInterrupt:
        print("jaxssl: stopped", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as ended:  # After --help or --version.
        return int(ended.code or 0)
    except Exception as error:
        wrong = explain(error, arguments)
        if not wrong:
            raise
        wrong.__cause__ = error
        return print_error(wrong, "--debug" in arguments)


def explain(error: Exception, arguments: Sequence[str]) -> UserError | None:
    """Return what a user can mend of an unforeseen error: devices that JAX cannot use, or damaged files of a run."""
    if Path(traceback.extract_tb(error.__traceback__)[-1].filename).name == "xla_bridge.py":
        reason = " ".join(str(error).split()) or "none is there"
        message = f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}: JAX cannot use this device ({reason}): set "
        message += "JAX_PLATFORMS=cpu, or install JAX for the device"
        return UserError(message, code="unsupported", field="JAX_PLATFORMS")
    found = ((find_damage(folder), folder) for folder in named_folders(arguments))
    return next((damaged(reason, folder) for reason, folder in found if reason), None)


def named_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the folders that the arguments name."""
    paths = (os.path.expanduser(argument.rpartition("=")[2]) for argument in arguments)
    return [Path(path) for path in paths if os.path.isdir(path)]


def console(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command of this process and exit: what `jaxssl`, `python -m jaxssl` and `python -m jaxssl.main` call."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["run"]:
        runtime.restart()
    messages.configure()
    code = main(arguments)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    if code:
        # Not sys.exit: after a failed write, threads of orbax wait for minutes and then print tracebacks.
        os._exit(code)
    sys.exit(0)
