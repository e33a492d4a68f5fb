"""The command line as a program: start-up, help, versions, exit codes, one-line errors."""

import json
import logging
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from vsr.cli import console, door
from vsr.cli.base import Argument
from vsr.cli.group import group
from vsr.cli.main import run
from vsr.errors import (
    CancelledError,
    ContainerError,
    OutOfMemoryError,
    SourceNotFoundError,
    UnknownModelError,
    VsrError,
)


@pytest.fixture(autouse=True)
def _calm(monkeypatch):
    """Leaves logging and the environment as they were."""
    monkeypatch.delenv("VSR_DEBUG", raising=False)
    logger = logging.getLogger("vsr")
    before = (logger.level, list(logger.handlers))
    yield
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]
    logging.captureWarnings(capture=False)


def program(*arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "vsr", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
        **kwargs,
    )


def every_command(command=group, path=("vsr",)):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        for name in command.list_commands(context):
            yield from every_command(command.get_command(context, name), (*path, name))


COMMANDS = {" ".join(path): command for path, command in every_command()}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["models"], ["upscale", "--help"], ["--version"]]
)
def test_torch_is_not_imported(arguments):
    code = (
        "import sys\n"
        "from vsr.cli.main import run\n"
        f"code = run({arguments!r})\n"
        "heavy = {'torch', 'av', 'numpy', 'tqdm'} & set(sys.modules)\n"
        "print(code, sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr.strip() == "0 []"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name):
    command = COMMANDS[name]
    assert command.help
    assert command.help.strip().split("\n")[0].endswith(".")
    for param in command.params:
        words = param.about if isinstance(param, Argument) else getattr(param, "help", None)
        assert words, f"{name}: {param.name} has no help"
        assert words.rstrip().endswith("."), f"{name}: {param.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_and_exits_with_0(name):
    result = CliRunner().invoke(group, [*name.split()[1:], "--help"], prog_name="vsr")
    assert result.exit_code == 0, result.output
    for param in COMMANDS[name].params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.opts[0] in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_no_two_options_share_a_name(name):
    names = [
        text for param in COMMANDS[name].params for text in (*param.opts, *param.secondary_opts)
    ]
    assert len(names) == len(set(names))


def test_versions_are_named(capsys):
    assert run(["--version"]) == 0
    text = capsys.readouterr().out
    for name in ("vsr 0", "Python 3", "torch 2", "av ", "avcodec", "numpy", "vapoursynth"):
        assert name in text


@pytest.mark.parametrize(("arguments", "words"), [([], "Commands:"), (["upscale"], "Examples:")])
def test_no_arguments_shows_help_and_fails(arguments, words, capsys):
    assert run(arguments) == 2
    out, error = capsys.readouterr()
    assert error.startswith("Usage: vsr ")
    assert f"\n{words}\n" in error
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such"], "no such command 'no-such'"),
        (["movie.mp4"], "vsr upscale movie.mp4"),
        (["upscale", "--no-such"], "--no-such"),
        (["--no-such"], "--no-such"),
        (["completion", "tcsh"], "tcsh"),
        (["completion"], "Missing argument"),
    ],
)
def test_usage_errors_are_one_line_and_2(arguments, words, capsys):
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("vsr: error: ")
    assert error.count("\n") == 1
    assert words in error
    assert "--help" in error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ContainerError("webm cannot hold h264"), 4, "webm cannot hold h264"),
        (SourceNotFoundError("no such file: x"), 3, "no such file: x"),
        (UnknownModelError("no model 'x'"), 5, "no model 'x'"),
        (OutOfMemoryError("1×1 tile does not fit"), 6, "1×1 tile does not fit"),
        (MemoryError(), 6, "out of memory"),
        (FileNotFoundError(2, "No such file or directory", "x.mkv"), 3, "directory: x.mkv"),
        (OSError(28, "No space left on device", "x.mkv"), 4, "No space left on device: x.mkv"),
        (CancelledError("stopped"), 130, "stopped"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (RuntimeError("odd"), 70, "report"),
        (VsrError("two\nlines"), 1, "two lines"),
    ],
)
def test_every_error_is_one_line_and_a_code(error, code, words, capsys):
    assert door.tell(error) == code
    said = capsys.readouterr().err
    assert said.startswith("vsr: error: ")
    assert said.count("\n") == 1
    assert words in said
    assert "Traceback" not in said


def test_the_file_is_named_once(capsys):
    door.tell(SourceNotFoundError("a.mp4 has no video"), subject="a.mp4")
    door.tell(ContainerError("no"), subject="a.mp4")
    assert capsys.readouterr().err == "vsr: error: a.mp4 has no video\nvsr: error: a.mp4: no\n"


def test_a_closed_pipe_is_quiet(capsys):
    assert 0 < door.tell(BrokenPipeError(32, "Broken pipe")) < 128
    assert capsys.readouterr().err == ""


def test_tracebacks_only_on_request(capsys, monkeypatch):
    monkeypatch.setenv("VSR_DEBUG", "1")
    door.tell(RuntimeError("odd"))
    assert "RuntimeError: odd\n" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="pipes close differently")
def test_reader_that_leaves_early_gets_no_complaint():
    with subprocess.Popen(
        [sys.executable, "-m", "vsr", "completion", "bash"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(30) in (0, 1)
    assert error == b""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_says_how_to_install_it(shell, capsys):
    assert run(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# ")
    assert f"vsr completion {shell}" in text
    assert "_VSR_COMPLETE" in text


def test_completion_completes_commands():
    environment = os.environ | {
        "_VSR_COMPLETE": "bash_complete",
        "COMP_WORDS": "vsr up",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from vsr.cli.main import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "upscale" in done.stdout


def test_devices_lists_the_cpu(capsys):
    assert run(["devices", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[-1]["name"] == "cpu"
    assert found[-1]["memory_bytes"] > 0
    assert run(["devices"]) == 0
    assert "cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [
        (-1, ["bad"]),
        (0, ["odd", "bad"]),
        (1, ["why", "odd", "bad"]),
        (2, ["all", "why", "odd", "bad"]),
    ],
)
def test_log_records_become_single_lines(verbosity, shown, capsys):
    console.configure(verbosity)
    logger = logging.getLogger("vsr.somewhere")
    logger.debug("all")
    logger.info("why")
    logger.warning("odd %s", "thing\nhere")
    logger.error("bad")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(shown)
    assert all(word in line for word, line in zip(shown, lines, strict=True))
    assert all(line.startswith("vsr: ") for line in lines)


def test_configuring_twice_says_things_once(capsys):
    console.configure(0)
    console.configure(0)
    logging.getLogger("vsr").warning("odd")
    assert capsys.readouterr().err == "vsr: warning: odd\n"


def test_control_characters_cannot_reach_the_terminal():
    assert console.one_line("a\x1b[2Jb\r\nc\ud800") == r"a\x1b[2Jb c\ud800"
