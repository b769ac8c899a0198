"""What CLIP_HOST may say, what it means, and what nobody is shown of it."""

from __future__ import annotations

import traceback

import pytest

from daemon.encoders.addresses import Address, Task, address_of, fixed, parse
from state.errors import Misconfigured, Rejected

TOKEN = "PDVBF6ecX09FY75n7ufa8q_MTB28XI6XIMcJ1md4ogeN0FLTbIZyC91Js=="


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://clip", Address("http", "clip", 80)),
        ("https://clip", Address("https", "clip", 443)),
        ("ws://clip", Address("ws", "clip", 80)),
        ("wss://clip", Address("wss", "clip", 443)),
        ("grpc://clip", Address("grpc", "clip", 51000)),
        ("grpcs://clip", Address("grpcs", "clip", 443)),
        ("HTTP://Clip.Example:8080/", Address("http", "clip.example", 8080)),
        ("  http://clip:8080/a/b//  ", Address("http", "clip", 8080, "/a/b")),
        ("https://server/net/" + TOKEN + "/", Address("https", "server", 443, "/net/" + TOKEN)),
        ("ws://clip:1/under", Address("ws", "clip", 1, "/under")),
        ("grpc://clip:51000/", Address("grpc", "clip", 51000)),
        ("my_clip-1:51009", Address("grpc", "my_clip-1", 51009)),
        ("clip", Address("grpc", "clip", 51000)),
        ("10.0.0.7", Address("grpc", "10.0.0.7", 51000)),
        ("[::1]:51000", Address("grpc", "::1", 51000)),
        ("http://[2001:DB8:0::1]/x", Address("http", "2001:db8::1", 80, "/x")),
    ],
)
def test_a_url_is_read(text: str, address: Address) -> None:
    assert parse(text) == (address,)


def test_urls_are_separated_by_commas() -> None:
    addresses = parse("http://a, grpc://b:2 ,c")
    assert addresses == (Address("http", "a", 80), Address("grpc", "b", 2), Address("grpc", "c", 51000))


@pytest.mark.parametrize("text", ["4711", " 4711 "])
def test_a_bare_number_is_a_task(text: str) -> None:
    assert parse(text) == Task(4711)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        "http://a,",
        "http://a,,http://b",
        "0",
        "9" * 5000,
        "4711,4712",
        "http://a,4711",
        "ftp://clip",
        "websocket://clip",
        "://clip",
        "http://",
        "http:///path",
        "http://:80",
        "http://user:pass@clip",
        "user@clip:51000",
        "http://clip?token=1",
        "http://clip#part",
        "http://clip?",
        "http://clip:port",
        "http://clip:0",
        "http://clip:65536",
        "http://clip:-1",
        "::1",
        "::1:51000",
        "http://[::1",
        "http://[nothing]",
        "http://cl ip",
        "http://cl\nip",
        "http://clip/a b",
        "http://clip/a/../b",
        "http://clip/ünder",
        "http://clip/a\\b",
        "http://-clip",
        "grpc://clip:51000/path",
        "clip:51000/path",
        "http:/clip",
        "http://a,http://a:80/",
        "http://[::1],http://[0:0::1]",
    ],
)
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured) as problem:
        parse(text)
    assert problem.value.setting == "CLIP_HOST"


def test_the_same_host_under_two_paths_is_two_addresses() -> None:
    one, other = address_of("http://a/one"), address_of("http://a/other")
    assert parse("http://a/one,http://a/other") == (one, other)


@pytest.mark.parametrize(
    "text",
    [
        f"ftp://server/net/{TOKEN}",
        f"http://user:{TOKEN}@clip",
        f"http://clip:{TOKEN}",
        f"http://clip/net/{TOKEN}?{TOKEN}",
        f"http://clip/net/{TOKEN} ",
        f"http://clip/{TOKEN}/ü",
        f"http://{TOKEN}:{TOKEN}",
        f"grpc://clip/{TOKEN}",
        f"http://clip/{TOKEN},http://clip/{TOKEN}",
    ],
)
def test_no_problem_and_no_address_shows_a_path(text: str) -> None:
    try:
        shown = f"{parse(text)!r} {parse(text)}"
    except Misconfigured as problem:
        shown = "".join(traceback.format_exception(problem))
    assert TOKEN not in shown


def test_a_name_is_for_people_and_a_url_for_connecting() -> None:
    address = address_of(f"http://[::1]/net/{TOKEN}/")
    assert (address.name, address.url) == ("http://[::1]:80", f"http://[::1]:80/net/{TOKEN}")
    assert address.secrets == (TOKEN,)


def test_short_parts_of_a_path_are_words() -> None:
    assert address_of("http://clip/net/embeddings").secrets == ()


def test_another_setting_is_named_and_has_another_scheme() -> None:
    assert address_of("server", "SERVER_ADDRESS", "http") == Address("http", "server", 80)
    with pytest.raises(Misconfigured, match="SERVER_ADDRESS"):
        address_of("ftp://server", "SERVER_ADDRESS", "http")


@pytest.mark.parametrize("path", ["net", "/net/", "net//"])
def test_a_path_goes_below_another(path: str) -> None:
    assert address_of("http://a/b").under(path) == Address("http", "a", 80, "/b/net")


@pytest.mark.parametrize("path", ["..", "a/../../b", "a?b", "a#b", "a b", "<html>", "a\n"])
def test_what_is_no_path_goes_below_nothing(path: str) -> None:
    with pytest.raises(Rejected) as problem:
        address_of("http://a").under(path)
    assert path not in str(problem.value)


async def test_fixed_addresses_stay() -> None:
    addresses = (Address("http", "a", 80),)
    find = fixed(addresses)
    assert await find() == await find() == addresses
