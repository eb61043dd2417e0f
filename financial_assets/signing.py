"""Signatures of records in the format of minisign, so that anybody's `minisign -V` can check them.

A signature is Ed25519 over BLAKE2b-512 of the message, and a second one over the first with its trusted comment
(https://jedisct1.github.io/minisign, format "ED"). Ed25519 draws nothing: the same key and message give the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from financial_assets.disk import disk_errors
from financial_assets.errors import SettingsError
from financial_assets.folders import make_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PLAIN, _HASHED, _NO_PASSWORD, _CHECKSUM = b"Ed", b"ED", b"\0\0", b"B2"
_SECRET_SIZE = 158
_HOW = "`financial-assets signing-key FILE` makes one, and so does `minisign -G -W -s FILE`"


@dataclass(frozen=True)
class Signer:
    """A secret key and what it is called in public.

    Attributes
    ----------
    public
        The public key as minisign writes it: base64 of 42 bytes.
    """

    public: str
    _name: bytes = field(repr=False)
    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> Signer:
        """The key in a file of minisign without a password, which only its owner may read.

        Raises
        ------
        SettingsError
            The file is missing, may be read by others, or is not such a key. The message holds nothing of the key.
        """
        path = path.expanduser()
        try:
            with path.open("rb") as stream:
                mode, text = os.fstat(stream.fileno()).st_mode, stream.read(4096)
        except OSError as error:
            raise SettingsError(f"SIGNING_KEY={path} cannot be read ({error.strerror}); {_HOW}") from None
        if stat.S_IMODE(mode) & 0o077:
            raise SettingsError(
                f"SIGNING_KEY={path} may be read by others than its owner (mode {stat.S_IMODE(mode):04o}): "
                f"run `chmod 600 {path}`, and make a new key if others use this machine"
            )
        lines = text.splitlines()
        try:
            secret = base64.b64decode(lines[1], validate=True)
        except (IndexError, binascii.Error):
            secret = b""
        if len(secret) != _SECRET_SIZE or secret[:2] != _PLAIN or secret[4:6] != _CHECKSUM:
            raise SettingsError(f"SIGNING_KEY={path} is not a secret key of minisign; {_HOW}")
        if secret[2:4] != _NO_PASSWORD:
            raise SettingsError(
                f"SIGNING_KEY={path} is protected by a password, which nobody can type in a daily run; {_HOW}"
            )
        name, key, checksum = secret[54:62], secret[62:126], secret[126:158]
        signer = cls.of(name, key[:32])
        # minisign itself leaves the checksum of a key without a password empty; the key's own halves must then do.
        is_whole = checksum in (bytes(32), hashlib.blake2b(_PLAIN + name + key, digest_size=32).digest())
        if not is_whole or base64.b64decode(signer.public)[10:] != key[32:]:
            raise SettingsError(f"SIGNING_KEY={path} is damaged: its parts do not belong together; {_HOW}")
        return signer

    @classmethod
    def of(cls, name: bytes, seed: bytes) -> Signer:
        """The key that is drawn from 32 bytes, with a name of 8."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # who signs needs it only

        key = Ed25519PrivateKey.from_private_bytes(seed)
        public = base64.b64encode(_PLAIN + name + key.public_key().public_bytes_raw()).decode()
        return cls(public, name, key)

    def sign(self, message: bytes, comment: str) -> str:
        """The signature of ``message`` as the text of a ``.minisig`` file.

        Parameters
        ----------
        message
            What is signed.
        comment
            One line that is signed, too: what the message is.
        """
        signature = self._key.sign(hashlib.blake2b(message).digest())
        around = self._key.sign(signature + comment.encode())
        lines = (
            "untrusted comment: signature of a record of financial-assets",
            base64.b64encode(_HASHED + self._name + signature).decode(),
            f"trusted comment: {comment}",
            base64.b64encode(around).decode(),
        )
        return "\n".join(lines) + "\n"


def make_key(path: Path) -> Signer:
    """Draw a key, write it to a new file that only its owner may read, and return it.

    Raises
    ------
    SettingsError
        There is a file already: a key that has signed records must not be lost.
    StorageError
        The disk refuses.
    """
    path = path.expanduser()
    name, seed = os.urandom(8), os.urandom(32)
    signer = Signer.of(name, seed)
    key = seed + base64.b64decode(signer.public)[10:]
    checksum = hashlib.blake2b(_PLAIN + name + key, digest_size=32).digest()
    # Salt and costs of the password that it does not have are empty.
    secret = _PLAIN + _NO_PASSWORD + _CHECKSUM + bytes(48) + name + key + checksum
    with disk_errors(path, "written"):
        make_folder(path.parent)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise SettingsError(f"{path} exists already, and a key is never overwritten: name another file") from None
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(b"untrusted comment: secret key of financial-assets, without a password\n")
            stream.write(base64.b64encode(secret) + b"\n")
            stream.flush()
            os.fsync(descriptor)
    return signer
