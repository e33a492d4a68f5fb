"""Ctrl-C, SIGTERM and SIGHUP end a running job in an orderly way."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

LONG_JOB = """
    import sys, time
    from pathlib import Path
    import vsr.jobs
    from vsr.cli.main import main
    from vsr.types import Progress

    def run(job, report=None):
        partial = Path(".partial")
        try:
            partial.write_bytes(b"x")
            print("ready", flush=True)
            for frames in range(1000):
                try:
                    time.sleep(0.05)
                except KeyboardInterrupt:
                    if job.source.stem != "swallow":
                        raise
                report(Progress(frames=frames, total=1000, seconds=1, size=(8, 6)))
        finally:
            if job.source.stem == "hang":
                time.sleep(60)
            partial.unlink()

    vsr.jobs.run = run
    main()
"""


def long_job(folder, name, number=None):
    source = folder / f"{name}.mp4"
    source.write_bytes(b"")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LONG_JOB), "upscale", "-s", "2", str(source)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == "ready\n"
    if number is not None:
        process.send_signal(number)
    return process


posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("kind", ["plain", "swallow"])
def test_signals_clean_up_and_end_with_130(tmp_path, name, kind):
    with long_job(tmp_path, kind, getattr(signal, name)) as process:
        error = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert error == f"vsr: error: stopped by {name}\n"
    assert [path.name for path in tmp_path.iterdir()] == [f"{kind}.mp4"]


@posix
def test_a_second_signal_ends_a_cleanup_that_hangs(tmp_path):
    with long_job(tmp_path, "hang", signal.SIGINT) as process:
        time.sleep(1.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert "Traceback" not in process.stderr.read()


@posix
def test_the_same_signal_twice_at_once_still_cleans_up(tmp_path):
    with long_job(tmp_path, "plain", signal.SIGINT) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
    assert not (tmp_path / ".partial").exists()


@posix
def test_an_ignored_hangup_stays_ignored(tmp_path):
    code = textwrap.dedent(LONG_JOB)
    (tmp_path / "a.mp4").write_bytes(b"")
    with subprocess.Popen(
        [sys.executable, "-c", code, "upscale", "-s", "2", str(tmp_path / "a.mp4")],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # noqa: PLW1509
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=120)
    assert process.returncode == 130


@posix
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_an_early_interrupt_has_no_traceback_of_ours(tmp_path, delay):
    (tmp_path / "a.mp4").write_bytes(b"")
    with subprocess.Popen(
        [sys.executable, "-m", "vsr", "devices"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        error = process.communicate(timeout=120)[1]
    assert "Traceback" not in error
    assert process.returncode in (0, 130, -signal.SIGTERM)


@posix
def test_a_stop_in_a_callback_is_told_once_and_without_traceback():
    code = """
        import os, signal, weakref
        from vsr.cli.signals import Stop, StoppedError
        stop = Stop()
        stop.install()
        def gone(_): os.kill(os.getpid(), signal.SIGTERM); list(range(9))
        class Thing: pass
        thing = Thing()
        ref = weakref.ref(thing, gone)
        del thing
        ref = weakref.ref(thing := Thing(), lambda _: 1 / 0)
        del thing
        try:
            stop.check()
        except StoppedError:
            print("stopped")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "stopped\n"
    assert "StoppedError" not in done.stderr
    assert "ZeroDivisionError" in done.stderr


PROGRAM = """
    import os, signal, time
    from vsr.cli import group
    from vsr.cli.main import main

    STRIKE = "os.kill(os.getpid(), signal.SIGTERM)"

    def job(*_, **__):
        {text}
        time.sleep(60)

    group.group.main = job
    main()
"""
IMPORTED = """
    import os, signal, time
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.3)
    open("imported", "w").close()
"""


def stopped(folder, text):
    """Runs what lets itself be stopped, as `python -m` does."""
    (folder / "program.py").write_text(textwrap.dedent(PROGRAM.format(text=text)))
    ended = subprocess.run(
        [sys.executable, "-m", "program"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
    )
    return ended.returncode, ended.stderr


@posix
def test_a_signal_waits_while_torch_is_being_imported(tmp_path):
    """An exception in the middle of that import makes PyTorch abort now and then."""
    (tmp_path / "torch.py").write_text(textwrap.dedent(IMPORTED))
    assert stopped(tmp_path, "import torch") == (130, "vsr: error: stopped by SIGTERM\n")
    assert (tmp_path / "imported").exists()


@posix
def test_a_signal_while_a_text_is_executed(tmp_path):
    assert stopped(tmp_path, "exec(STRIKE)") == (130, "vsr: error: stopped by SIGTERM\n")
