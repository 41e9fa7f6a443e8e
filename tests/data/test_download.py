import io
import shutil
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

from jiadf.data import check
from jiadf.data import download as module
from jiadf.data.download import DownloadError, download, fetch, unpack
from jiadf.files import DiskFullError

CONTENT = bytes(range(256)) * 4000  # about 1 MB


class Server:
    """A file server on this machine, with ranges and with the faults a test asks for."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.etag: str | None = '"one"'
        self.ranges = self.says_length = True
        self.break_after: list[int] = []  # bytes after which each next answer breaks off
        self.statuses: list[int] = []  # answers before the first good one
        self.content_type = "application/octet-stream"
        self.requests: list[tuple[str, str | None]] = []
        handler = type("Handler", (_Handler,), {"server_state": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # a client that does not read to the end
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

    def do_HEAD(self):
        self._answer(head=True)

    def do_GET(self):
        self._answer(head=False)

    def _answer(self, head):
        state, name, asked = self.server_state, self.path.lstrip("/"), self.headers.get("Range")
        if not head:
            state.requests.append((name, asked))
        if state.statuses or name not in state.files:
            self.send_error(state.statuses.pop(0) if state.statuses else 404)
            return
        content, start = state.files[name], 0
        if asked and state.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        if state.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", state.content_type)
        if state.etag:
            self.send_header("ETag", state.etag)
        self.end_headers()
        if not head:
            self.wfile.write(body[: state.break_after.pop(0)] if state.break_after else body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        running.files["file"] = CONTENT
        yield running


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


@pytest.fixture
def get(server, tmp_path, monkeypatch):
    def run(tries=6):
        monkeypatch.setattr(module, "TRIES", tries)
        fetch(server.url + "file", tmp_path / "file", progress=False)
        return (tmp_path / "file").read_bytes()

    return run


def left(folder):
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if name != ".download.lock"]


# --- one file ---------------------------------------------------------------------------------


def test_a_broken_connection_is_resumed(get, server, waits):
    server.break_after = [300_000, 200_000]
    assert get() == CONTENT
    assert server.requests == [("file", None), ("file", "bytes=300000-"), ("file", "bytes=500000-")]
    assert waits == [1.0, 2.0]


def test_a_later_run_resumes(get, server, tmp_path):
    server.break_after = [300_000]
    with pytest.raises(DownloadError, match=r"300,000 bytes are kept.*run the same"):
        get(tries=1)
    (part,) = left(tmp_path)
    assert part.endswith(".part")
    assert get() == CONTENT
    assert server.requests[1] == ("file", "bytes=300000-")
    assert left(tmp_path) == ["file"]


def test_a_complete_part_of_a_killed_run_is_not_asked_for_again(get, server, tmp_path):
    server.break_after = [300_000]
    with pytest.raises(DownloadError):
        get(tries=1)
    (tmp_path / left(tmp_path)[0]).write_bytes(CONTENT)
    assert get() == CONTENT
    assert len(server.requests) == 1


def test_tries_are_bounded_and_wait_longer_each_time(get, server, waits):
    server.break_after = [0] * 100
    with pytest.raises(DownloadError, match="broke off 5 times"):
        get(tries=5)
    assert waits == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("fault", ["ranges", "etag"])
def test_what_cannot_be_resumed_starts_over_but_not_for_ever(get, server, tmp_path, fault):
    setattr(server, fault, {"ranges": False, "etag": None}[fault])
    server.break_after = [300_000]
    assert get() == CONTENT
    (tmp_path / "file").unlink()
    server.break_after = [300_000, 200_000] * 100
    with pytest.raises(DownloadError, match="broke off"):
        get(tries=4)


def test_a_file_that_changed_meanwhile_starts_over(get, server):
    server.break_after = [300_000]
    with pytest.raises(DownloadError):
        get(tries=1)
    server.files["file"], server.etag = CONTENT[::-1], '"two"'
    assert get() == CONTENT[::-1]


def test_a_file_without_a_size_is_refused_as_half_of_it_would_look_whole(get, server, tmp_path):
    server.says_length = False
    with pytest.raises(DownloadError, match="does not say how large"):
        get()
    assert left(tmp_path) == []


@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_server_is_tried_again_and_404_is_told_at_once(get, server, waits, status):
    server.statuses = [status, status]
    assert get() == CONTENT
    assert waits == [1.0, 2.0]
    del server.files["file"]
    with pytest.raises(DownloadError, match=r"404.*127\.0\.0\.1.*Check the address"):
        get()
    assert len(waits) == 2


def test_no_server(get, server):
    server.http.server_close()
    with pytest.raises(DownloadError, match="broke off 2 times"):
        get(tries=2)


def test_a_web_page_is_not_taken_for_a_file(get, server, tmp_path):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="web page"):
        get()
    assert left(tmp_path) == []


def test_too_little_room_is_told_before_anything_is_written(get, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(DiskFullError, match=r"1,024,000 more bytes.* 1 bytes free.*caches"):
        get()
    assert left(tmp_path) == []


def test_a_full_disk_keeps_the_part(get, server, tmp_path, monkeypatch):
    server.break_after = [300_000]
    with pytest.raises(DownloadError):
        get(tries=1)
    part = tmp_path / left(tmp_path)[0]
    real = Path.open
    with monkeypatch.context() as patch:
        full = lambda path, *a, **k: real(Path("/dev/full") if path == part else path, *a, **k)  # noqa: E731
        patch.setattr(Path, "open", full)
        with pytest.raises(DiskFullError, match="the disk is full"):
            get()
    assert get() == CONTENT
    assert server.requests[-1] == ("file", "bytes=300000-")


# --- archives ---------------------------------------------------------------------------------


def archive(path: Path, members: dict, compression=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def unpacked(tmp_path, members):
    path = archive(tmp_path / "a.zip", members)
    return unpack(path, tmp_path / "Input", progress=False)


@pytest.mark.parametrize("prefix", ["Input/", ""])
def test_unpack_images_and_nothing_else(tmp_path, prefix):
    others = ["LICENSE.txt", "__MACOSX/IL_1/._a.jpg", f"{prefix}.DS_Store", f"{prefix}IL_1/x.py"]
    members = dict.fromkeys(others, b"x")
    members |= {f"{prefix}IL_1/": b"", f"{prefix}IL_1/a.jpg": b"a", f"{prefix}IL_2/b.jpg": b"b"}
    unpacked(tmp_path, members)
    target = tmp_path / "Input"
    files = {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*.*")}
    assert files == {"IL_1/a.jpg": b"a", "IL_2/b.jpg": b"b"}
    assert left(tmp_path) == ["Input", "a.zip"]


def link(name):
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def test_no_member_can_be_written_elsewhere(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    members = {"../../IL_1/evil.jpg": b"1", "/IL_2/evil.jpg": b"2", "../a.jpg": b"3"}
    members |= {"Input/C:evil/a.jpg": b"4", "Input/IL_1/a b.jpg": b"5"}
    unpacked(folder, members | {link("Input/IL_3/a.jpg"): b"/etc/passwd"})
    assert left(tmp_path) == ["inner"]
    assert left(folder) == ["Input", "a.zip"]
    assert left(folder / "Input") == ["IL_1", "IL_2", "IL_3"]
    assert left(folder / "Input" / "IL_1") == ["evil.jpg"]
    assert not (folder / "Input" / "IL_3" / "a.jpg").is_symlink()


def test_an_archive_without_images_is_damaged(tmp_path):
    with pytest.raises(DownloadError, match="holds no lesion_id"):
        unpacked(tmp_path, {"Input/readme.txt": b"x"})
    assert left(tmp_path) == []


def no_crc(content):
    return content[:60] + bytes(30) + content[90:]


@pytest.mark.parametrize("damage", [lambda c: c[:-30], lambda c: b"", lambda c: b"x" * 300, no_crc])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_archive_leaves_nothing(tmp_path, damage, compression):
    path = archive(tmp_path / "a.zip", {"Input/IL_1/a.jpg": CONTENT}, compression)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DownloadError, match=r"a\.zip is damaged"):
        unpack(path, tmp_path / "Input", progress=False)
    assert left(tmp_path) == []


def test_a_full_disk_while_unpacking_and_what_a_killed_run_left(tmp_path, monkeypatch):
    (tmp_path / ".Input.unpacking" / "IL_0").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
        with pytest.raises(DiskFullError, match="1,024,000 more bytes"):
            unpacked(tmp_path, {"Input/IL_1/a.jpg": CONTENT})
    assert left(tmp_path) == ["a.zip"]
    unpack(tmp_path / "a.zip", tmp_path / "Input", progress=False)
    assert left(tmp_path / "Input") == ["IL_1"]


# --- the whole download -----------------------------------------------------------------------


@pytest.fixture
def official(server, milk, milk_test_part, monkeypatch):
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
    monkeypatch.setattr(module, "BASE_URL", server.url)
    return server


def run(root, accept_license=True, **options):
    return download(root, accept_license, progress=False, **options)


def test_download_makes_folders_that_pass_the_check_and_fetches_nothing_twice(
    official, tmp_path, capsys
):
    layouts = run(tmp_path / "new" / "data", parts=("training", "test"))
    assert [layout.part for layout in layouts] == ["training", "test"]
    for layout in layouts:
        assert check(layout.root, layout.part, progress=False) == []
    assert left(layouts[0].root) == sorted(
        name.replace(".zip", "") for name in official.files if name != "file"
    )
    assert "CC BY-NC 4.0" in capsys.readouterr().out
    assert len(official.requests) == 6
    run(tmp_path / "new" / "data", parts=("training", "test"))
    assert len(official.requests) == 6
    assert capsys.readouterr().out.count("there already") == 6


def test_download_goes_on_after_breaks_and_takes_away_what_a_killed_run_left(official, tmp_path):
    official.break_after = [50, 60, 70, 10_000, 80, 90, 100]
    (layout,) = run(tmp_path / "data")
    assert official.break_after == []
    assert check(layout.root, progress=False) == []
    (layout.root / "MILK10k_Training_Input.zip").write_bytes(b"killed after unpacking")
    (layout.root / "MILK10k_Training_Metadata.csv.0123.part").write_bytes(b"of before")
    run(tmp_path / "data")
    assert not [name for name in left(layout.root) if "zip" in name or "part" in name]


def test_license_must_be_accepted(official, tmp_path):
    with pytest.raises(DownloadError) as caught:
        run(tmp_path / "data", accept_license=False)
    for words in ("CC BY-NC 4.0", "commercial", "--accept-license", "10.34970/648456"):
        assert words in str(caught.value)
    assert official.requests == []
    assert not (tmp_path / "data").exists()


def test_a_second_download_into_the_folder_is_refused(tmp_path):
    with (
        FileLock(tmp_path / ".download.lock"),
        pytest.raises(DownloadError, match="another download"),
    ):
        run(tmp_path)


def test_unknown_part(tmp_path):
    with pytest.raises(ValueError, match="validation"):
        run(tmp_path, parts=("validation",))
