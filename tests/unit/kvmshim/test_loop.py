"""What trio imports for TLS: not loaded with a daemon, and there for who uses it."""

import subprocess
import sys

TLS = {"_hashlib", "_ssl"}


def loaded(program: str) -> set[str]:
    """The libraries for TLS that a program of this interpreter has loaded at its end."""
    tell = f"{program}\nimport sys\nprint(*sys.modules)"
    run = [sys.executable, "-c", tell]
    said = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    return TLS & set(said.split())


def test_a_daemon_does_without() -> None:
    assert (
        loaded("import kvmshim.cli.main, kvmshim.control.server, kvmshim.device.service") == set()
    )


def test_it_is_loaded_when_it_is_used() -> None:
    assert "_ssl" in loaded("import kvmshim.loop, ssl; ssl.create_default_context()")
    digest = "import kvmshim.loop, hmac; assert hmac.digest(b'key', b'message', 'sha256')"
    assert "_hashlib" in loaded(digest)
