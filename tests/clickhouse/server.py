"""ClickHouse's HTTP interface over chdb, the ClickHouse engine as a library: for tests, and where there is no server.

    python server.py DIRECTORY [PORT]     prints {"port": …, "version": …} when it listens

Takes what Vector's sink, Grafana's queries and the migrator send: `query` in the URL or the body, data in the body (gzip too),
`param_…`, settings, and `/ping`. One query at a time.
"""

import gzip
import json
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb import session

# Longest body read: more than any batch of the aggregator.
MAX_BODY_BYTES = 256 << 20
# Parameters of a request that are no settings.
NOT_SETTINGS = {"query", "database", "user", "password", "default_format", "session_id", "query_id"}
# What ClickHouse answers with a status of its own, by the error's code; it is 500 for others.
STATUS = {60: 404, 81: 404, 6: 400, 26: 400, 27: 400, 38: 400, 41: 400, 53: 400, 62: 400, 117: 400, 130: 400, 349: 400}
ENGINE_LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """One request: a query, or a look whether it lives."""

    protocol_version = "HTTP/1.1"
    engine = None

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def answer(self):
        url = urlsplit(self.path)
        body = self.body()
        if url.path == "/ping":
            return self.send(200, b"Ok.\n")
        if body is None:
            return self.send(413, b"the body is too large\n")
        given = dict(parse_qsl(url.query, keep_blank_values=True))
        sql = given["query"].encode() + b"\n" + body if "query" in given else body
        parameters = {name[len("param_"):]: value for name, value in given.items() if name.startswith("param_")}
        settings = {name: value for name, value in given.items() if name not in NOT_SETTINGS and not name.startswith("param_")}
        try:
            result = self.run(sql.decode(), parameters, settings, given.get("database"), given.get("default_format", "TabSeparated"))
        except Exception as error:  # chdb has one type for whatever the engine says.
            text = str(error)
            code = re.search(r"Code: (\d+)", text)
            return self.send(STATUS.get(int(code.group(1)), 500) if code else 500, text.encode() + b"\n")
        return self.send(200, result)

    def run(self, sql, parameters, settings, database, default_format):
        with ENGINE_LOCK:
            try:
                for name, value in settings.items():
                    self.engine.query(f"SET {identifier(name)} = {literal(value)}")
                if database:
                    self.engine.query(f"USE {identifier(database)}")
                return self.engine.query(sql, default_format, params=parameters or None).bytes()
            finally:
                for name in settings:
                    self.engine.query(f"SET {identifier(name)} = DEFAULT")

    def body(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY_BYTES:
            return None
        body = self.rfile.read(length)
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def identifier(name):
    """Only names that need no quotes."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"Code: 62. not a name: {name!r}")
    return name


def literal(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def main():
    directory, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    Handler.engine = session.Session(directory)
    version = Handler.engine.query("SELECT version()", "TabSeparated").bytes().decode().strip()
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(json.dumps({"port": server.server_port, "version": version}), flush=True)
    server.serve_forever()
    with ENGINE_LOCK:
        Handler.engine.close()


if __name__ == "__main__":
    main()
