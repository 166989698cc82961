"""What passes between the host and the machine, as files in a directory that both see."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

STDOUT = "stdout"
STDERR = "stderr"
_JOB = "job.json"
_STATUS = "status"


@dataclass(frozen=True, slots=True)
class Job:
    """A command and where it runs."""

    argv: list[str]
    directory: str
    environment: dict[str, str]

    def save(self, directory: Path) -> None:
        """Leave it for the machine."""
        (directory / _JOB).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, directory: Path) -> "Job":
        """What the host asks for."""
        return cls(**json.loads((directory / _JOB).read_text()))


def save_status(directory: Path, status: int) -> None:
    """Leave the exit status for the host: negative for a signal."""
    (directory / _STATUS).write_text(str(status))


def load_status(directory: Path) -> int | None:
    """The exit status, None if the command did not end."""
    try:
        return int((directory / _STATUS).read_text())
    except (FileNotFoundError, ValueError):
        return None
