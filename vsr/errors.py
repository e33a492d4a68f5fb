"""Every error that `vsr` raises on purpose, in one tree.

    VsrError                        base class; `exit_code` is what the command line returns
    ├── UsageError (ValueError)         an option or argument that cannot be used
    ├── SourceError                     the input cannot be read
    │   ├── SourceNotFoundError (FileNotFoundError)
    │   ├── UnsupportedSourceError      readable, but not something `vsr` may or can process
    │   └── DamagedSourceError          broken data where `--strict` forbids concealment
    ├── SinkError                       the output cannot be written
    │   ├── SinkExistsError (FileExistsError)
    │   ├── JournalError                an unfinished job of this output is another job
    │   ├── ContainerError              the container cannot hold a stream
    │   └── EncoderError                the encoder is missing or refused its settings
    ├── ModelError                      a network or checkpoint cannot be used
    │   ├── UnknownModelError (LookupError)
    │   ├── CheckpointError             unreadable, unsafe or not matching file
    │   └── DownloadError               a download failed or did not match its digest
    ├── DeviceError                     the device is missing or gave up
    │   ├── OutOfMemoryError (MemoryError)
    │   └── NonFiniteError (ArithmeticError)
    ├── ToolError                       a program that is needed is missing or failed
    ├── VerificationError               an output is not what was to become of its source
    └── CancelledError                  stopped by the user; exit code 130

A message is one line: what was got, what was expected, what to do.
"""


class VsrError(Exception):
    """Base class of all deliberate errors."""

    exit_code = 1


class UsageError(VsrError, ValueError):
    """An option or argument that cannot be used."""

    exit_code = 2


class SourceError(VsrError):
    """The input cannot be read."""

    exit_code = 3


class SourceNotFoundError(SourceError, FileNotFoundError):
    """The input does not exist."""


class UnsupportedSourceError(SourceError):
    """The input is readable but is not something that can or may be processed."""


class DamagedSourceError(SourceError):
    """The input is damaged and `--strict` forbids concealing it."""


class SinkError(VsrError):
    """The output cannot be written."""

    exit_code = 4


class SinkExistsError(SinkError, FileExistsError):
    """The output exists and overwriting was not asked for."""


class JournalError(SinkError):
    """An unfinished job of this output is another job, or somebody works on it."""


class ContainerError(SinkError):
    """The output container cannot hold one of the streams."""


class EncoderError(SinkError):
    """The encoder is missing or refused its settings."""


class ModelError(VsrError):
    """A network or its checkpoint cannot be used."""

    exit_code = 5


class UnknownModelError(ModelError, LookupError):
    """No model has this name."""


class CheckpointError(ModelError):
    """A checkpoint is unreadable, unsafe, or fits no architecture."""


class DownloadError(ModelError):
    """A download failed or did not match its pinned size or digest."""


class DeviceError(VsrError):
    """The device is missing or could not do the work."""

    exit_code = 6


class OutOfMemoryError(DeviceError, MemoryError):
    """Even the smallest batch and tile do not fit into the device's memory."""


class NonFiniteError(DeviceError, ArithmeticError):
    """The network gave NaN or infinity even in single precision."""


class ToolError(VsrError):
    """A program that is needed is missing or failed."""

    exit_code = 7


class VerificationError(VsrError):
    """An output is not what was to become of its source."""

    exit_code = 8


class CancelledError(VsrError):
    """The user stopped the job."""

    exit_code = 130
