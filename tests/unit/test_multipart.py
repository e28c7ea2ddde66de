"""Taking an upload's form apart, whatever the pieces in which it arrives."""

from random import Random

import pytest

from ingest_api.errors import BadRequest
from ingest_api.web.multipart import READ_BYTES, read_form

BOUNDARY = "XyZ"
HEAD = (
    b'--XyZ\r\nContent-Disposition: form-data; name="codec"\r\n\r\nopus\r\n'
    b'--XyZ\r\nContent-Disposition: form-data; name="chunk_file"; filename="a.ogg"\r\n\r\n'
)
TAILS = {
    "plain": b"\r\n--XyZ--\r\n",
    "padded": b"\r\n--XyZ \t\r\nContent-Disposition: form-data; name=more\r\n\r\n\r\n--XyZ--",
}
# What looks like the end of a part for a while, and is not.
TRAPS = (
    b"\r",
    b"\r\n",
    b"\r\n--Xy",
    b"\n--XyZ--\r\n",
    b"\r--XyZ\r\n",
    b"\r\n--XyZ-",
    b"\r\n--XyZa\r\n",
)


def _read(body: bytes, pieces: list[int]) -> tuple[dict[str, str], bytes]:
    """The fields and the file of `body`, arriving in pieces that end at these places."""
    ends = iter([*pieces, len(body)])
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        begin, at = at, min(next(ends, len(body)), at + size)
        return body[begin:at]

    file = bytearray()
    form = read_form(read, BOUNDARY, file.extend)
    return form.to_dict(), bytes(file)


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
@pytest.mark.parametrize("trap", TRAPS, ids=repr)
def test_a_body_may_be_cut_anywhere_in_two(trap: bytes, tail: bytes) -> None:
    sound = b"abc" + trap
    body = HEAD + sound + tail
    for cut in range(len(b"--XyZ\r\n"), len(body)):
        fields, file = _read(body, [cut])
        assert file == sound, cut
        assert fields["codec"] == "opus"


def test_a_body_may_be_cut_anywhere_in_many() -> None:
    random = Random(6)
    for _ in range(300):
        sound = b"".join(trap + b"." for trap in random.choices(TRAPS, k=random.randrange(20)))
        body = HEAD + sound + TAILS["padded"]
        places = range(len(b"--XyZ\r\n"), len(body))
        cuts = sorted(random.sample(places, random.randrange(len(places))))
        assert _read(body, cuts)[1] == sound


@pytest.mark.parametrize("missing", range(1, 14))
def test_a_recording_that_ends_with_a_piece_is_whole(missing: int) -> None:
    """The delimiter is cut in two by the size of a read, as it happens over a network."""
    sound = bytes(READ_BYTES - len(HEAD) - missing)
    assert _read(HEAD + sound + TAILS["plain"], [])[1] == sound


@pytest.mark.parametrize("end", [b"", b"\r\n--XyZ", b"\r\n--XyZ-", b"\n--XyZ--\n", b"\r\n--Xyz--"])
def test_a_part_that_does_not_end_is_refused(end: bytes) -> None:
    with pytest.raises(BadRequest):
        _read(HEAD + b"sound" + end, [])


def test_a_head_that_is_too_long_is_refused() -> None:
    more = b"\r\n--XyZ\r\nContent-Disposition: form-data; name=more\r\n" + 20_000 * b"a: b\r\n"
    with pytest.raises(BadRequest):
        _read(HEAD + b"sound" + more + b"\r\nx" + TAILS["plain"], [])
