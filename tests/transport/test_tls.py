"""TLS files are read without waiting for anything, and judged as libcurl would use them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from fluxhook.config.schema import Tls
from fluxhook.errors import ConfigError
from fluxhook.transport.tls import MemoryFile, TlsMaterial, read_tls
from support.tls import Identity, encrypted, self_signed


class Pair(NamedTuple):
    own: Identity
    other: Identity


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two certificates with their keys."""
    directory = tmp_path_factory.mktemp("pair")
    return Pair(self_signed(directory, "own"), self_signed(directory, "other"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that are no PEM files of the kind that is wanted."""
    (tmp_path / "empty").touch()
    (tmp_path / "words").write_text("no PEM at all\n")
    (tmp_path / "cut").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    (tmp_path / "huge").write_bytes(b"x" * (5 << 20))
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


def problems(tls: Tls, path: str = "tls") -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        read_tls(tls, path)
    assert all(problem.remedy for problem in caught.value.problems)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def fault(tls: Tls) -> str:
    """The one problem, without the file's name."""
    [(path, message)] = problems(tls)
    return f"{path}: {message.rpartition(chr(39))[2].strip()}"


def test_files_are_read_as_they_are(pair: Pair) -> None:
    """Contents go to libcurl byte for byte."""
    material = read_tls(Tls(ca=pair.other.cert, cert=pair.own.cert, key=pair.own.key))
    files = (pair.other.cert, pair.own.cert, pair.own.key)
    assert material == TlsMaterial(*(Path(file).read_bytes() for file in files))


def test_a_path_need_not_be_ascii(pair: Pair, tmp_path: Path) -> None:
    """Any name that the file system has."""
    file = tmp_path / "zertifikat-ä-证书.pem"
    file.write_bytes(Path(pair.own.cert).read_bytes())
    assert read_tls(Tls(ca=str(file))).ca == file.read_bytes()


def test_pem_text_stands_for_a_file(pair: Pair) -> None:
    """An option may hold the PEM text itself."""
    text = Path(pair.own.cert).read_text()
    key = Path(pair.own.key).read_text()
    material = read_tls(Tls(ca=text, cert=text, key=key))
    assert material == TlsMaterial(text.encode(), text.encode(), key.encode())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fifo", "cannot be read: not a regular file"),
        ("", "cannot be read: not a regular file"),
        ("/dev/zero", "cannot be read: not a regular file"),
        ("/dev/tty", "cannot be read: not a regular file"),
        ("/proc/kmsg", "cannot be read: empty"),
        ("empty", "cannot be read: empty"),
        ("huge", "has more than"),
        ("none", "does not exist"),
        ("words/none", "does not exist"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("nul\0", "is no path of a file"),
        ("surrogate\ud800", "is no path of a file"),
    ],
)
def test_only_regular_files_are_read(folder: Path, name: str, message: str) -> None:
    """Nothing is waited for: neither a writer, nor a device, nor the kernel. The name is shown."""
    [(path, said)] = problems(Tls(ca=os.path.join(folder, name)))
    assert path == "tls.ca"
    assert message in said


@pytest.mark.parametrize(
    ("name", "message"), [("words", "holds no certificate"), ("cut", "that cannot be read")]
)
def test_authorities_are_certificates(folder: Path, name: str, message: str) -> None:
    """Neither other text, nor a certificate that was cut."""
    assert message in fault(Tls(ca=str(folder / name)))


def test_authorities_are_not_a_key(pair: Pair) -> None:
    """A key is not taken for a certificate."""
    assert fault(Tls(ca=pair.own.key)) == "tls.ca: holds no certificate in PEM"


def test_a_key_belongs_to_its_certificate(pair: Pair, tmp_path: Path) -> None:
    """Neither one of the same kind nor one of another."""
    other_kind = str(tmp_path / "ed25519.key")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", other_kind], check=True)
    for key in (pair.other.key, other_kind):
        found = fault(Tls(cert=pair.own.cert, key=key))
        assert found == "tls.key: does not belong to the certificate"


@pytest.mark.parametrize("form", ["ec", "pkcs8"])
def test_an_encrypted_key_is_refused(pair: Pair, form: Literal["ec", "pkcs8"]) -> None:
    """In both of its forms; nobody is asked for the password."""
    found = fault(Tls(cert=pair.own.cert, key=encrypted(pair.own.key, form)))
    assert found == "tls.key: is encrypted, and nobody can be asked for its password"


def test_a_key_is_a_key(pair: Pair, folder: Path) -> None:
    """A certificate in its place, or anything else, is none."""
    for key in (pair.own.cert, str(folder / "words")):
        assert "holds no private key" in fault(Tls(cert=pair.own.cert, key=key))


def test_every_problem_is_told_at_its_place(folder: Path) -> None:
    """`path` is where the option stands."""
    words = str(folder / "words")
    found = problems(Tls(ca=words, cert=words, key=words), "webhook.endpoints[0].tls")
    assert [path for path, _ in found] == [
        "webhook.endpoints[0].tls.ca",
        "webhook.endpoints[0].tls.cert",
    ]


def test_a_key_is_never_shown(pair: Pair) -> None:
    """Neither in a problem nor in the material's `repr`."""
    key = Path(pair.other.key).read_text()
    [(_, message)] = problems(Tls(cert=pair.own.cert, key=key))
    assert message == "the text does not belong to the certificate"
    assert repr(read_tls(Tls(cert=pair.other.cert, key=key))) == "TlsMaterial(...)"


def test_a_memory_file_can_be_opened_by_its_path() -> None:
    """Until it is closed."""
    with MemoryFile(b"contents") as path:
        assert Path(path).read_bytes() == b"contents"
    assert not Path(path).exists()
