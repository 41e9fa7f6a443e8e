import errno
import hashlib
import io
import json
import shutil
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jiadf.data import check, fetch
from jiadf.data.download import (
    BASE_URL,
    FILES,
    LicenseNotAcceptedError,
    RemoteFile,
    download,
)
from jiadf.data.fetch import DiskFullError, DownloadError
from jiadf.data.unpack import BadArchiveError, unpack_folder

CONTENT = bytes(range(256)) * 4000  # about 1 MB


class Server:
    """A file server on this machine, with ranges and with the faults a test asks for."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.etag: str | None = '"one"'
        self.ranges = self.if_range = True
        self.break_after: list[int] = []  # bytes after which each next answer breaks off
        self.statuses: list[int] = []  # answers before the first good one
        self.wrong_range = False
        self.content_type = "application/octet-stream"
        self.requests: list[tuple[str, str | None]] = []
        handler = type("Handler", (_Handler,), {"server_state": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_state: Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        state, name = self.server_state, self.path.lstrip("/")
        asked = self.headers.get("Range")
        state.requests.append((name, asked))
        if state.statuses:
            self.send_error(state.statuses.pop(0))
            return
        if name not in state.files:
            self.send_error(404)
            return
        content, start = state.files[name], 0
        valid = not state.if_range or self.headers.get("If-Range") in (None, state.etag)
        if asked and state.ranges and valid:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            shown = start + 1 if state.wrong_range else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", state.content_type)
        if state.etag:
            self.send_header("ETag", state.etag)
        self.end_headers()
        if state.break_after:
            body = body[: state.break_after.pop(0)]
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        running.files["file"] = CONTENT
        yield running


@pytest.fixture
def waits():
    return []


@pytest.fixture
def get(server, tmp_path, waits):
    def run(**options):
        options = {"progress": False, "sleep": waits.append, "timeout": 5.0} | options
        return fetch.fetch(server.url + "file", tmp_path / "file", **options)

    return run


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".download.lock")


def test_fetch(get, tmp_path):
    assert get().read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]


def test_a_complete_file_is_not_fetched_again(get, server):
    get()
    get()
    assert len(server.requests) == 1


def test_a_broken_connection_is_resumed(get, server, waits):
    server.break_after = [300_000, 200_000]
    assert get().read_bytes() == CONTENT
    assert server.requests == [("file", None), ("file", "bytes=300000-"), ("file", "bytes=500000-")]
    assert waits == [1.0, 1.0]  # each try got further, so the wait does not grow


def test_a_later_run_resumes(get, server, tmp_path):
    server.break_after = [300_000]
    with pytest.raises(DownloadError, match=r"300,000 bytes are kept.*run the same"):
        get(retries=0)
    assert left(tmp_path) == ["file.part", "file.part.json"]
    assert get().read_bytes() == CONTENT
    assert server.requests[1] == ("file", "bytes=300000-")
    assert left(tmp_path) == ["file"]


def test_tries_are_bounded_and_wait_longer_each_time(get, server, waits):
    server.break_after = [0] * 100
    with pytest.raises(DownloadError, match="broke off 5 times"):
        get(retries=4)
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert len(server.requests) == 5


def test_server_without_ranges_starts_over_but_not_for_ever(get, server):
    server.ranges = False
    server.break_after = [300_000, 200_000]
    assert get().read_bytes() == CONTENT
    server.break_after = [300_000] * 100
    (get().parent / "file").unlink()
    with pytest.raises(DownloadError, match="broke off"):
        get(retries=3)


def test_a_file_that_changed_meanwhile_starts_over(get, server):
    server.break_after = [300_000]
    with pytest.raises(DownloadError):
        get(retries=0)
    server.files["file"], server.etag = CONTENT[::-1], '"two"'
    assert get().read_bytes() == CONTENT[::-1]


def test_a_changed_file_is_noticed_without_if_range(get, server):
    server.break_after = [300_000]
    with pytest.raises(DownloadError):
        get(retries=0)
    server.files["file"], server.etag = CONTENT[::-1], '"two"'
    server.if_range = False
    assert get().read_bytes() == CONTENT[::-1]


def test_a_part_without_validator_is_not_trusted(get, server, tmp_path):
    server.etag = None
    (tmp_path / "file.part").write_bytes(b"of another file")
    assert get().read_bytes() == CONTENT
    assert server.requests == [("file", None)]


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"validator": 3, "total": "x"}'])
def test_a_damaged_note_starts_over(get, server, tmp_path, note):
    (tmp_path / "file.part").write_bytes(b"of another file")
    (tmp_path / "file.part.json").write_text(note)
    assert get().read_bytes() == CONTENT


def test_a_wrong_range_is_not_appended(get, server):
    server.break_after = [300_000]
    server.wrong_range = True
    assert get().read_bytes() == CONTENT
    assert server.requests[-1] == ("file", None)


def test_a_part_longer_than_the_file_starts_over(get, server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT + b"x")
    (tmp_path / "file.part.json").write_text(json.dumps({"validator": '"one"', "total": None}))
    assert get().read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [f"bytes={len(CONTENT) + 1}-", None]


def test_a_complete_part_needs_no_request(get, server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    note = {"validator": '"one"', "total": len(CONTENT)}
    (tmp_path / "file.part.json").write_text(json.dumps(note))
    assert get().read_bytes() == CONTENT
    assert server.requests == []


def test_404_is_told_at_once(get, server, waits):
    del server.files["file"]
    with pytest.raises(DownloadError, match=r"404.*127\.0\.0\.1.*Check the address"):
        get()
    assert waits == []


@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_server_is_tried_again(get, server, waits, status):
    server.statuses = [status, status]
    assert get().read_bytes() == CONTENT
    assert waits == [1.0, 2.0]


def test_no_server(tmp_path, server, waits):
    server.http.server_close()
    with pytest.raises(DownloadError, match="broke off 2 times"):
        fetch.fetch(server.url, tmp_path / "x", progress=False, retries=1, sleep=waits.append)


def test_a_web_page_is_not_taken_for_a_file(get, server, tmp_path):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="web page"):
        get()
    assert left(tmp_path) == []


def test_only_web_addresses(tmp_path):
    with pytest.raises(DownloadError, match="not an http"):
        fetch.fetch("file:///etc/hostname", tmp_path / "x")


def test_published_size_and_hash_are_checked(get, tmp_path):
    with pytest.raises(DownloadError, match="12 are published"):
        get(size=12)
    with pytest.raises(DownloadError, match="SHA-256"):
        get(sha256="0" * 64)
    assert left(tmp_path) == []
    get(size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest().upper())
    assert left(tmp_path) == ["file"]


def test_too_little_room_is_told_before_anything_is_written(get, tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10, 9, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError, match=r"needs 1,024,000 more bytes.* 1 free"):
        get()
    assert left(tmp_path) == []


class FullDisk:
    """Lets `Path.open` write so many bytes, then fails as a full disk does."""

    def __init__(self, monkeypatch, room):
        self.room, real = room, Path.open
        disk = self

        class Stream(io.FileIO):
            def write(self, data):
                if disk.room < len(data):
                    super().write(data[: disk.room])
                    disk.room = 0
                    raise OSError(errno.ENOSPC, "No space left on device")
                disk.room -= len(data)
                return super().write(data)

        def opened(path, mode="r", *args, **kwargs):
            if set(mode) & set("wax") and "b" in mode:
                return Stream(path, mode)
            return real(path, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", opened)


def test_a_full_disk_keeps_the_part(get, server, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, room=700_000)
        with pytest.raises(DiskFullError, match=r"disk is full.*700,000 bytes.*Make room"):
            get()
    assert len(server.requests) == 1  # it does not try again
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:700_000]
    assert get().read_bytes() == CONTENT
    assert server.requests[-1] == ("file", "bytes=700000-")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the always full device")
def test_a_really_full_device(get, tmp_path):
    (tmp_path / "file.part").symlink_to("/dev/full")
    (tmp_path / "file.part.json").write_text(json.dumps({"validator": '"one"', "total": None}))
    with pytest.raises(DiskFullError, match="disk is full"):
        get()


def test_a_folder_that_may_not_be_written(tmp_path, server):
    (tmp_path / "x.part").mkdir()
    with pytest.raises(DownloadError, match=r"x\.part"):
        fetch.fetch(server.url + "file", tmp_path / "x", progress=False, retries=0)


# --- archives ---------------------------------------------------------------------------------


def archive(path: Path, members: dict, compression=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def unpack(tmp_path, members, **options):
    path = archive(tmp_path / "a.zip", members, **options)
    return unpack_folder(path, tmp_path / "Input", progress=False)


@pytest.mark.parametrize("prefix", ["Input/", ""])
def test_unpack_with_and_without_the_folder_itself(tmp_path, prefix):
    members = {f"{prefix}IL_1/": b"", f"{prefix}IL_1/a.jpg": b"a", f"{prefix}IL_2/b.jpg": b"b"}
    target = unpack(tmp_path, members)
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*.jpg")) == [
        "IL_1/a.jpg",
        "IL_2/b.jpg",
    ]
    assert left(tmp_path) == ["Input", "a.zip"]
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((target / "IL_1").stat().st_mode)


def test_files_beside_the_folder_are_kept_but_replace_nothing(tmp_path):
    (tmp_path / "README.txt").write_text("mine")
    members = {"Input/a": b"a", "LICENSE.txt": b"by-nc", "README.txt": b"x", "__MACOSX/a": b"x"}
    unpack(tmp_path, members)
    assert left(tmp_path) == ["Input", "LICENSE.txt", "README.txt", "a.zip"]
    assert (tmp_path / "README.txt").read_text() == "mine"


def link(name):
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    "member",
    [
        "../evil",
        "Input/../../evil",
        "/evil",
        "//evil",
        "C:/evil",
        "C:evil",
        "\\evil",
        "Input\\..\\..\\evil",
        "Input//evil",
        "./evil",
        "Input/..",
        link("Input/link"),
    ],
)
def test_unsafe_members_are_refused_before_anything_is_written(tmp_path, member):
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(BadArchiveError, match=r"was not unpacked: its member .*evil|link|\.\."):
        unpack(folder, {"Input/good": b"good", member: b"/etc"})
    assert left(folder) == ["a.zip"]
    assert left(tmp_path) == ["inner"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("Input/a", b"1")
        opened.writestr("Input/a", b"2")
    with pytest.raises(BadArchiveError, match="twice"):
        unpack_folder(tmp_path / "a.zip", tmp_path / "Input", progress=False)


def test_wrong_crc_leaves_nothing(tmp_path):
    path = archive(tmp_path / "a.zip", {"Input/a": b"first", "Input/b": b"second"})
    path.write_bytes(path.read_bytes().replace(b"second", b"sEcond"))
    with pytest.raises(BadArchiveError, match=r"a\.zip is damaged .*Input/b"):
        unpack_folder(path, tmp_path / "Input", progress=False)
    assert left(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("damage", [lambda c: c[:-30], lambda c: b"", lambda c: b"x" * 300])
def test_not_a_whole_archive(tmp_path, damage):
    path = archive(tmp_path / "a.zip", {"Input/a": CONTENT}, zipfile.ZIP_DEFLATED)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadArchiveError, match="damaged"):
        unpack_folder(path, tmp_path / "Input", progress=False)


def test_damaged_compressed_data(tmp_path):
    path = archive(tmp_path / "a.zip", {"Input/a": CONTENT}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(BadArchiveError, match="damaged"):
        unpack_folder(path, tmp_path / "Input", progress=False)
    assert left(tmp_path) == ["a.zip"]


def test_full_disk_while_unpacking(tmp_path):
    path = archive(tmp_path / "a.zip", {"Input/a": CONTENT})
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, room=10_000)
        with pytest.raises(DiskFullError, match=r"a\.zip could not be unpacked and is kept"):
            unpack_folder(path, tmp_path / "Input", progress=False)
    assert left(tmp_path) == ["a.zip"]
    usage = shutil._ntuple_diskusage(10, 9, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: usage)
        with pytest.raises(DiskFullError, match="1,024,000 bytes to unpack"):
            unpack_folder(path, tmp_path / "Input", progress=False)
    assert unpack_folder(path, tmp_path / "Input", progress=False).is_dir()


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".unpack-Input-abc" / "content").mkdir(parents=True)
    unpack(tmp_path, {"Input/a": b"a"})
    assert left(tmp_path) == ["Input", "a.zip"]


# --- the whole download -----------------------------------------------------------------------


@pytest.fixture
def official(server, milk, milk_test_part):
    """Serve both parts of a tiny MILK10k under the official names."""
    for folder in (milk, milk_test_part):
        folder.write()
        files = io.BytesIO()
        with zipfile.ZipFile(files, "w") as opened:
            for path in sorted(folder.layout.input_dir.rglob("*.jpg")):
                opened.write(path, path.relative_to(folder.root))
        server.files[folder.layout.input_dir.name + ".zip"] = files.getvalue()
    for path in milk.root.glob("*.csv"):
        server.files[path.name] = path.read_bytes()
    return server


def run(root, server, **options):
    options = {"accept_license": True, "progress": False, "backoff": 0.0} | options
    return download(root, base_url=server.url, echo=lambda _: None, **options)


def test_download_makes_a_folder_that_passes_the_check(official, tmp_path):
    (layout,) = run(tmp_path / "new" / "data", official)
    assert layout.part == "training"
    assert check(layout.root, progress=False) == []
    assert left(layout.root) == [
        "MILK10k_Training_GroundTruth.csv",
        "MILK10k_Training_Input",
        "MILK10k_Training_Metadata.csv",
        "MILK10k_Training_Supplement.csv",
    ]


def test_both_parts_and_nothing_is_fetched_twice(official, tmp_path):
    layouts = run(tmp_path / "data", official, parts=("training", "test"))
    assert [layout.part for layout in layouts] == ["training", "test"]
    for layout in layouts:
        assert check(layout.root, layout.part, progress=False) == []
    count = len(official.requests)
    assert count == len(FILES) == 6
    said = []
    download(tmp_path / "data", True, ("training", "test"), official.url, echo=said.append)
    assert len(official.requests) == count
    assert sum("there already" in line for line in said) == 6


def test_download_goes_on_after_breaks(official, tmp_path):
    official.break_after = [50, 60, 70, 10_000, 80, 90, 100]
    (layout,) = run(tmp_path / "data", official)
    assert official.break_after == []
    assert check(layout.root, progress=False) == []


def test_license_must_be_accepted(official, tmp_path):
    with pytest.raises(LicenseNotAcceptedError) as caught:
        run(tmp_path / "data", official, accept_license=False)
    for words in ("CC BY-NC 4.0", "commercial", "--accept-license", "10.34970/648456"):
        assert words in str(caught.value)
    assert official.requests == []
    assert not (tmp_path / "data").exists()


def test_license_is_shown_when_accepted(official, tmp_path, capsys):
    download(tmp_path / "data", True, base_url=official.url, progress=False)
    assert "CC BY-NC 4.0" in capsys.readouterr().out


def test_a_damaged_archive_is_removed_and_fetched_anew(official, tmp_path):
    name = "MILK10k_Training_Input.zip"
    good = official.files[name]
    official.files[name] = good[:300] + b"\xff\xff\xff" + good[303:]
    with pytest.raises(BadArchiveError, match=r"MILK10k_Training_Input\.zip.*was removed"):
        run(tmp_path / "data", official)
    assert not any("Input" in path for path in left(tmp_path / "data"))
    official.files[name] = good
    (layout,) = run(tmp_path / "data", official)
    assert check(layout.root, progress=False) == []


def test_an_archive_that_leaves_the_folder_is_refused(official, tmp_path):
    files = io.BytesIO()
    with zipfile.ZipFile(files, "w") as opened:
        opened.writestr("MILK10k_Training_Input/../../../evil.jpg", b"x")
    official.files["MILK10k_Training_Input.zip"] = files.getvalue()
    with pytest.raises(BadArchiveError, match=r"evil\.jpg"):
        run(tmp_path / "data", official)
    assert list(tmp_path.rglob("evil*")) == []


def test_a_missing_file_is_named(official, tmp_path):
    del official.files["MILK10k_Training_Supplement.csv"]
    with pytest.raises(DownloadError, match=r"404.*MILK10k_Training_Supplement\.csv"):
        run(tmp_path / "data", official)


def test_a_second_download_into_the_folder_is_refused(official, tmp_path):
    from filelock import FileLock

    (tmp_path / "data").mkdir()
    with (
        FileLock(tmp_path / "data" / ".download.lock"),
        pytest.raises(DownloadError, match="another download"),
    ):
        run(tmp_path / "data", official)


def test_published_sizes_are_used(official, tmp_path):
    files = [RemoteFile("MILK10k_Training_Metadata.csv", "training", size=3)]
    with pytest.raises(DownloadError, match="3 are published"):
        run(tmp_path / "data", official, files=files)


def test_unknown_part(tmp_path):
    with pytest.raises(ValueError, match="validation"):
        download(tmp_path, True, parts=("validation",))
    with pytest.raises(ValueError, match="no part"):
        download(tmp_path, True, parts=())


def test_table_of_files():
    assert BASE_URL.startswith("https://")
    assert {file.part for file in FILES} == {"training", "test"}
    assert len({file.name for file in FILES}) == len(FILES)
