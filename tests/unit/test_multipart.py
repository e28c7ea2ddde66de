"""Taking an upload's form apart, whatever the pieces in which it arrives."""

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest_api.errors import BadRequest, ValidationFailed
from ingest_api.web.multipart import READ_BYTES, FormReader

BOUNDARY = "XyZ"
OPENING = b"--XyZ\r\n"
FIELD = OPENING + b'Content-Disposition: form-data; name="%b"\r\n\r\n'
FILE = OPENING + b'Content-Disposition: form-data; name="chunk_file"; filename="a.ogg"\r\n\r\n'
HEAD = FIELD % b"codec" + b"opus\r\n" + FILE
ENDS = (
    b"\r\n--XyZ--\r\n",
    b"\r\n--XyZ--",
    b"\r\n--XyZ \t\r\nContent-Disposition: form-data; name=more\r\n\r\n\r\n--XyZ--",
)
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


def _read(body: bytes, ends: list[int]) -> tuple[dict[str, list[str]], bytes]:
    """The fields and the file of `body`, arriving in pieces that end at these places."""
    places = iter([*ends, len(body)])
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        begin, at = at, min(next(places, len(body)), at + size)
        return body[begin:at]

    file = bytearray()
    reader = FormReader(read, BOUNDARY, file.extend, read_early=lambda: read(READ_BYTES))
    early = reader.read_fields()
    assert not file
    form = reader.read_rest()
    for name, values in early.lists():
        assert form.getlist(name)[: len(values)] == values
    return form.to_dict(flat=False), bytes(file)


def _cuts(body: bytes) -> st.SearchStrategy[list[int]]:
    """Places to cut `body` at."""
    places = st.integers(min(1, len(body)), len(body))
    return st.lists(places, unique=True, max_size=40).map(sorted)


@dataclass(frozen=True)
class _Form:
    fields: list[tuple[str, bytes]]
    sound: bytes
    end: bytes

    def body(self) -> bytes:
        fields = (FIELD % name.encode() + value + b"\r\n" for name, value in self.fields)
        return b"".join([*fields, FILE, self.sound, self.end])

    def parts(self) -> tuple[dict[str, list[str]], bytes]:
        fields: dict[str, list[str]] = {}
        for name, value in self.fields:
            fields.setdefault(name, []).append(value.decode(errors="replace"))
        return fields | ({"more": [""]} if b"name=more" in self.end else {}), self.sound


# A trap is followed by a byte of no meaning: two in a row could make a delimiter.
_pieces = st.sampled_from(TRAPS) | st.binary(max_size=9)
_contents = st.lists(_pieces.map(lambda piece: piece + b"."), max_size=12).map(b"".join)
_contents = st.builds(bytes.__add__, _contents, st.sampled_from([b"", b"\r", b"\r\n", b"\r\n--"]))
_forms = st.builds(
    _Form,
    fields=st.lists(st.tuples(st.sampled_from(["codec", "start_ts", "x"]), _contents), max_size=4),
    sound=_contents,
    end=st.sampled_from(ENDS),
)


@given(data=st.data(), form=_forms)
def test_any_split_of_the_bytes_gives_the_same_parts(data: st.DataObject, form: _Form) -> None:
    body = form.body()
    assert _read(body, data.draw(_cuts(body))) == form.parts()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("trap", TRAPS, ids=repr)
def test_a_body_may_be_cut_anywhere_in_two(trap: bytes, end: bytes) -> None:
    sound = b"abc" + trap
    body = HEAD + sound + end
    for cut in range(1, len(body)):
        fields, file = _read(body, [cut])
        assert file == sound, cut
        assert fields["codec"] == ["opus"]


@pytest.mark.parametrize("before", [0, 1, 40])
@pytest.mark.parametrize("after", [0, 1, 40])
def test_other_files_may_surround_the_recording(before: int, after: int) -> None:
    other = FILE.replace(b"chunk_file", b"other") + b"x" * 50 + b"\r\n"
    body = other * before + HEAD + b"sound\r\n" + other * after
    cuts: list[list[int]] = [[], [len(body) // 2], list(range(1, len(body), 7))]
    for ends in cuts:
        assert _read(body + b"--XyZ--", ends) == ({"codec": ["opus"]}, b"sound")
        for cut in (body, body[:-3], body[:-60]):
            with pytest.raises(BadRequest):
                _read(cut, ends)


# Bytes that a parser may stumble over, beside those of no meaning.
_hostile = st.lists(
    st.sampled_from(
        [
            *TRAPS,
            *ENDS,
            OPENING,
            FILE,
            FIELD % b"x",
            b"--XyZ--",
            b"\r\n\r\n",
            b"Content-Disposition: form-data; name=",
            b"Content-Disposition: form-data; name*=utf-8''%ff; filename*=''%",
            b'Content-Type: text/plain; charset="',
            b"Content-Transfer-Encoding: base64\r\n",
            b"a: b\r\n" * 5000,
            b"=?utf-8?q?=",
            b"\0" * 70_000,
        ]
    )
    | st.binary(max_size=40),
    max_size=12,
).map(b"".join)


@given(data=st.data(), junk=_hostile, opened=st.booleans())
@example(data=None, junk=HEAD + b"sound" + ENDS[0] + HEAD + b"again" + ENDS[0], opened=False)
@example(data=None, junk=HEAD + b"sound\r\n" + FILE + b"again" + ENDS[0], opened=False)
def test_hostile_bytes_are_refused_or_read(
    data: st.DataObject | None, junk: bytes, opened: bool
) -> None:
    body = OPENING + junk if opened else junk
    cuts = data.draw(_cuts(body)) if data else []
    try:
        fields, sound = _read(body, cuts)
    except (BadRequest, ValidationFailed):
        pass
    else:
        assert len(sound) + sum(len(value) for all_ in fields.values() for value in all_) <= len(
            body
        )


@pytest.mark.parametrize("filler", [*TRAPS, b"a"], ids=repr)
def test_what_looks_like_ends_takes_no_longer(filler: bytes) -> None:
    """To look at the same bytes again with every piece would take minutes."""
    sound = filler * (5_000_000 // len(filler)) + b"."
    assert _read(HEAD + sound + ENDS[0], [])[1] == sound


@pytest.mark.parametrize("missing", range(1, 14))
def test_a_recording_that_ends_with_a_piece_is_whole(missing: int) -> None:
    """The delimiter is cut in two by the size of a read, as it happens over a network."""
    sound = bytes(READ_BYTES - len(HEAD) - missing)
    assert _read(HEAD + sound + ENDS[0], [])[1] == sound


@pytest.mark.parametrize("end", [b"", b"\r\n--XyZ", b"\r\n--XyZ-", b"\n--XyZ--\n", b"\r\n--Xyz--"])
def test_a_part_that_does_not_end_is_refused(end: bytes) -> None:
    with pytest.raises(BadRequest):
        _read(HEAD + b"sound" + end, [])


def test_a_head_that_is_too_long_is_refused() -> None:
    more = b"\r\n--XyZ\r\nContent-Disposition: form-data; name=more\r\n" + 20_000 * b"a: b\r\n"
    with pytest.raises(BadRequest):
        _read(HEAD + b"sound" + more + b"\r\nx" + ENDS[0], [])


@pytest.mark.parametrize(
    "preamble",
    [
        *(
            b"\r\n",
            b"\r\n\r\n",
            b"This is a message in MIME format.\r\n",
            b"--Xy\r\n",
            b"--XyZa\r\n",
        ),
        *(b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n", b"x" * 300_000 + b"\r\n"),
    ],
    ids=lambda value: repr(value[:20]),
)
@pytest.mark.parametrize("padding", [b"", b" ", b"\t "])
def test_a_preamble_padding_and_an_epilogue_are_ignored(preamble: bytes, padding: bytes) -> None:
    body = HEAD.replace(b"--XyZ\r\n", b"--XyZ" + padding + b"\r\n") + b"sound" + ENDS[1]
    epilogue = b" \r\n" + b"bye\r\n--XyZ\r\n" * 100_000
    assert _read(preamble + body + epilogue, []) == ({"codec": ["opus"]}, b"sound")


def test_a_filename_need_not_be_utf_8() -> None:
    body = HEAD.replace(b"a.ogg", b"K\xfcche.ogg") + b"sound" + ENDS[0]
    assert _read(body, [])[1] == b"sound"
