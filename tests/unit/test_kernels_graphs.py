"""The bookkeeping of CUDA graphs, with a recorder that needs no device."""

import logging

import pytest
import torch

from vsr.engine.kernels.graphs import CudaRecorder, Graphs, Recording
from vsr.errors import UsageError


class Recorder:
    """Captures by calling again: what a replay reads and writes is what a graph would."""

    def __init__(self, error=None):
        self.captured, self.replayed, self.error = [], 0, error

    def __call__(self, function, inputs):
        self.captured.append(tuple(x.shape for x in inputs))
        if self.error is not None:
            raise self.error
        static = tuple(torch.empty_like(x) for x in inputs)
        output = torch.empty_like(function(*inputs))

        def replay():
            self.replayed += 1
            output.copy_(function(*static))

        return Recording(static, output, replay)


def double(x):
    return 2 * x


def test_one_graph_for_each_layout():
    recorder = Recorder()
    graphs = Graphs(double, recorder=recorder)
    inputs = [torch.rand(1, 3, 4, 5), torch.rand(2, 3, 4, 5), torch.rand(1, 3, 4, 5)]
    inputs += [inputs[0].half(), inputs[0].contiguous(memory_format=torch.channels_last)]
    for x in inputs * 2:
        assert torch.equal(graphs(x), 2 * x)
    assert len(graphs) == len(recorder.captured) == 4
    assert recorder.replayed == 10


def test_the_result_is_one_buffer():
    graphs = Graphs(double, recorder=Recorder())
    first = graphs(torch.ones(3))
    second = graphs(torch.zeros(3))
    assert first is second
    assert first.count_nonzero() == 0


def test_several_inputs():
    graphs = Graphs(torch.add, recorder=Recorder())
    a, b = torch.rand(3), torch.rand(3)
    assert torch.equal(graphs(a, b), a + b)
    assert torch.equal(graphs(b, b), b + b)
    assert len(graphs) == 1


def test_the_one_unused_for_longest_goes():
    recorder = Recorder()
    graphs = Graphs(double, limit=2, recorder=recorder)
    for size in (1, 2, 1, 3, 1, 2):
        graphs(torch.ones(size))
    assert len(graphs) == 2
    assert [shapes[0][0] for shapes in recorder.captured] == [1, 2, 3, 2]


def test_preparing_captures_before_the_first_call():
    recorder = Recorder()
    graphs = Graphs(double, recorder=recorder)
    assert graphs.prepare(torch.ones(4))
    assert recorder.replayed == 0
    graphs(torch.ones(4))
    assert len(recorder.captured) == recorder.replayed == 1


def test_what_cannot_be_captured_stays_eager_with_one_line(caplog):
    recorder = Recorder(RuntimeError("operation not permitted\nCUDA says more"))
    graphs = Graphs(double, recorder=recorder)
    with caplog.at_level(logging.WARNING, "vsr"):
        for _ in range(3):
            assert torch.equal(graphs(torch.ones(2, 3)), torch.full((2, 3), 2.0))
    (record,) = caplog.records
    message = record.getMessage()
    assert "(2, 3)" in message
    assert "not permitted" in message
    assert "\n" not in message
    assert len(recorder.captured) == 1
    assert not graphs.prepare(torch.ones(2, 3))


def test_out_of_memory_drops_all_graphs_and_goes_on(caplog):
    recorder = Recorder()
    graphs = Graphs(double, recorder=recorder)
    graphs(torch.ones(2))
    recorder.error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        graphs(torch.ones(3))
    assert len(graphs) == 0
    assert not caplog.records
    recorder.error = None
    assert torch.equal(graphs(torch.ones(3)), torch.full((3,), 2.0))  # tried anew


def test_other_errors_are_not_swallowed():
    graphs = Graphs(double, recorder=Recorder(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        graphs(torch.ones(2))


def test_the_cpu_has_no_graphs():
    graphs = Graphs(double)
    assert torch.equal(graphs(torch.ones(2)), torch.full((2,), 2.0))
    assert not graphs.prepare(torch.ones(2))
    assert len(graphs) == 0


def test_a_limit_below_one_is_refused():
    with pytest.raises(UsageError, match="at least 1"):
        Graphs(double, limit=0)


def test_memory_that_ending_a_capture_hid_is_still_a_lack_of_memory():
    """`torch.cuda.graph` ends a broken capture, which raises something else."""

    def record(_function, _inputs):
        try:
            msg = "CUDA out of memory"
            raise torch.OutOfMemoryError(msg)
        finally:
            msg = "operation failed due to a previous error during capture"
            raise RuntimeError(msg)

    with pytest.raises(torch.OutOfMemoryError):
        Graphs(double, recorder=record)(torch.ones(2))


class FakeCuda:
    """As much of `torch.cuda` as a capture uses; notes the order of what is done."""

    def __init__(self, monkeypatch, fail=False):  # noqa: C901 - tiny classes
        self.log, self.current, self.pools, self.fail = [], "caller", [], fail
        fake = self

        class Within:
            def __init__(self, name):
                self.name = name

            def __enter__(self):
                self.kept, fake.current = fake.current, self.name

            def __exit__(self, *_):
                fake.current = self.kept

        class Stream:
            def __init__(self, _device):
                fake.log.append("new stream")

            def wait_stream(self, _other):
                fake.log.append("side waits")

            def synchronize(self):
                fake.log.append("synchronise")

        class Graph:
            def __init__(self):
                self.number = len(fake.pools)

            def pool(self):
                return f"pool of {self.number}"

            def replay(self):
                fake.log.append(f"replay on {fake.current}")

        class Capture:
            def __init__(self, graph, *, pool, stream, capture_error_mode):  # noqa: ARG002
                assert capture_error_mode == "thread_local"
                fake.pools.append(pool)

            def __enter__(self):
                fake.log.append("begin")

            def __exit__(self, *_):
                if fake.fail:
                    fake.current = "lost"
                    msg = "capture failed"
                    raise RuntimeError(msg)
                fake.log.append("end")

        monkeypatch.setattr(torch.cuda, "device", lambda _: Within("caller"))
        monkeypatch.setattr(torch.cuda, "stream", lambda _: Within("side"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", Capture)

    def work(self, x):
        self.log.append(f"work on {self.current}")
        return x + 1


def test_a_capture_in_order(monkeypatch):
    cuda, recorder = FakeCuda(monkeypatch), CudaRecorder(warmups=2)
    recording = recorder(cuda.work, (torch.ones(2),))
    assert cuda.log == [
        "new stream",
        "side waits",
        *["work on side"] * 2,
        "synchronise",
        "begin",
        "work on side",
        "end",
        "synchronise",
    ]
    recording.replay()
    assert cuda.log[-1] == "replay on caller"


def test_graphs_share_the_pool_of_one_that_is_alive(monkeypatch):
    cuda, recorder = FakeCuda(monkeypatch), CudaRecorder()
    first = recorder(cuda.work, (torch.ones(2),))
    second = recorder(cuda.work, (torch.ones(3),))
    assert cuda.pools == [None, "pool of 0"]
    del first
    third = recorder(cuda.work, (torch.ones(4),))
    assert cuda.pools[-1] == "pool of 1"
    del second, third
    recorder(cuda.work, (torch.ones(5),))
    assert cuda.pools[-1] is None
    assert cuda.log.count("new stream") == 1


def test_the_stream_is_restored_where_a_capture_fails(monkeypatch):
    cuda = FakeCuda(monkeypatch, fail=True)
    with pytest.raises(RuntimeError, match="capture failed"):
        CudaRecorder()(cuda.work, (torch.ones(2),))
    assert cuda.current == "caller"
    assert cuda.log[-1] == "synchronise"
